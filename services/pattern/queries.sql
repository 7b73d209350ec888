-- Write the settings that a person changed and the newest event time of each workspace (WorkspaceSettingsChanged, IssueReported).
-- name: UpsertWorkspaces :exec
INSERT INTO workspaces (workspace_id, confidence_threshold, minimum_cluster_size, newest_at)
SELECT r.workspace_id, r.confidence_threshold, r.minimum_cluster_size, r.newest_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, confidence_threshold double precision, minimum_cluster_size integer, newest_at timestamptz)
ON CONFLICT (workspace_id) DO UPDATE SET
    confidence_threshold = coalesce(excluded.confidence_threshold, workspaces.confidence_threshold),
    minimum_cluster_size = coalesce(excluded.minimum_cluster_size, workspaces.minimum_cluster_size),
    newest_at = greatest(excluded.newest_at, workspaces.newest_at);

-- Write new issues (IssueReported); an issue is reported only once.
-- name: InsertIssues :exec
INSERT INTO issues (workspace_id, issue_id, title, source, severity, service, component, error_type, team, environment, version, occurred_at,
    ended_at)
SELECT r.workspace_id, r.issue_id, r.title, r.source, r.severity, r.service, r.component, r.error_type, r.team, r.environment, r.version, r.occurred_at,
    r.ended_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, title text, source text, severity text, service text, component text,
    error_type text, team text, environment text, version text, occurred_at timestamptz, ended_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO NOTHING;

-- Write when issues ended, or that they are open again (IssueUpdated, IssueClosed, IssueRestored).
-- name: EndIssues :exec
UPDATE issues SET ended_at = r.ended_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, issue_id text, ended_at timestamptz)
WHERE issues.workspace_id = r.workspace_id AND issues.issue_id = r.issue_id;

-- Keep of purged issues what counts need, under ids of their own; nothing of one in no pattern ever (IssuesPurged).
-- name: KeepRemainders :exec
INSERT INTO issues (workspace_id, issue_id, title, source, severity, service, component, error_type, team, environment, version,
    occurred_at, ended_at)
SELECT m.workspace_id, r.remainder_id, '', r.source, r.severity, r.service, r.component, r.error_type, r.team,
    r.environment, r.version, r.occurred_at, r.ended_at
FROM json_to_recordset(sqlc.arg(issues)::json) AS r(
    issue_id text, remainder_id text, source text, severity text, service text, component text, error_type text,
    team text, environment text, version text, occurred_at timestamptz, ended_at timestamptz)
JOIN members AS m ON m.workspace_id = sqlc.arg(workspace_id) AND m.issue_id = r.issue_id
ON CONFLICT (workspace_id, issue_id) DO NOTHING;

-- Delete purged issues (IssuesPurged).
-- name: DeleteIssues :exec
DELETE FROM issues WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id = ANY(sqlc.arg(issue_ids)::text[]);

-- Let the memberships of purged issues follow to the ids of what is kept of them (IssuesPurged).
-- name: RenameMembers :exec
UPDATE members AS m SET issue_id = r.remainder_id
FROM json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, remainder_id text)
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.issue_id = r.issue_id;

-- Let the texts of purged issues follow to the ids of what is kept of them (IssuesPurged).
-- name: RenameExemplars :exec
UPDATE exemplars AS e SET issue_id = r.remainder_id
FROM json_to_recordset(sqlc.arg(issues)::json) AS r(issue_id text, remainder_id text)
WHERE e.workspace_id = sqlc.arg(workspace_id) AND e.issue_id = r.issue_id;

-- Write memberships (IssuesLinked); an issue that has a pattern keeps it until it leaves.
-- name: UpsertMembers :exec
INSERT INTO members (workspace_id, issue_id, pattern_id, grouping_key, score, severity, occurred_at)
SELECT r.workspace_id, r.issue_id, r.pattern_id, r.grouping_key, r.score, r.severity, r.occurred_at
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, issue_id text, pattern_id text, grouping_key text, score double precision,
    severity text, occurred_at timestamptz)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, grouping_key = excluded.grouping_key, score = excluded.score,
    severity = excluded.severity
WHERE members.pattern_id IS NULL;

-- Write texts of the similarity index; one that had expired is entered anew, at the end (IssuesLinked).
-- name: InsertExemplars :exec
INSERT INTO exemplars (workspace_id, issue_id, seq, exemplar)
SELECT r.workspace_id, r.issue_id, r.seq, r.exemplar
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, issue_id text, seq bigint, exemplar text)
ON CONFLICT (workspace_id, issue_id) DO UPDATE SET seq = excluded.seq, exemplar = excluded.exemplar
WHERE exemplars.seq < excluded.seq;

-- Delete the texts of one kind that have expired: all but the latest n, as the index does (IssuesLinked).
-- name: DropExpiredExemplars :exec
DELETE FROM exemplars AS e
WHERE e.workspace_id = sqlc.arg(workspace_id) AND (strpos(e.exemplar, E'\n') > 0) = sqlc.arg(is_written)::boolean
  AND e.seq <= (
    SELECT o.seq FROM exemplars AS o
    WHERE o.workspace_id = sqlc.arg(workspace_id) AND (strpos(o.exemplar, E'\n') > 0) = sqlc.arg(is_written)::boolean
    ORDER BY o.seq DESC OFFSET sqlc.arg(n) LIMIT 1);

-- Begin the patterns that have their first issue (IssuesLinked).
-- name: InsertPatterns :exec
INSERT INTO patterns (workspace_id, pattern_id, status, name, is_named_by_person, version, described_count, status_seq, merged_into)
SELECT r.workspace_id, r.pattern_id, 'candidate', '', false, 0, 0, 0, ''
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, pattern_id text)
ON CONFLICT (workspace_id, pattern_id) DO NOTHING;

-- Change what a batch says of patterns; what it does not mention stays (every event of a pattern).
-- name: UpdatePatterns :exec
UPDATE patterns SET
    version = r.version,
    status = coalesce(r.status, patterns.status),
    name = coalesce(r.name, patterns.name),
    is_named_by_person = coalesce(r.is_named_by_person, patterns.is_named_by_person),
    described_count = coalesce(r.described_count, patterns.described_count),
    watched_since = coalesce(r.watched_since, patterns.watched_since),
    status_seq = coalesce(r.status_seq, patterns.status_seq),
    mttr_seconds = coalesce(r.mttr_seconds, patterns.mttr_seconds)
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, version bigint, status text, name text, is_named_by_person boolean,
    described_count bigint, watched_since timestamptz, status_seq bigint, mttr_seconds double precision)
WHERE patterns.workspace_id = r.workspace_id AND patterns.pattern_id = r.pattern_id;

-- Take issues out of a pattern (IssueUnlinked, PatternSplit).
-- name: ReleaseMembers :exec
UPDATE members SET pattern_id = NULL
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
  AND issue_id = ANY(sqlc.arg(issue_ids)::text[]);

-- Drop every "must" on a key: a person has decided anew (LinkConstrained).
-- name: DropMusts :exec
DELETE FROM constraints WHERE workspace_id = $1 AND grouping_key = $2 AND kind = 'must_link';

-- Write a person's decision on a key and a pattern; the latest one counts (LinkConstrained).
-- name: UpsertConstraint :exec
INSERT INTO constraints (workspace_id, grouping_key, pattern_id, kind, issue_id, decided_by, decided_at)
VALUES ($1, $2, $3, $4, $5, sqlc.narg('decided_by')::text, sqlc.arg(decided_at)::timestamptz)
ON CONFLICT (workspace_id, grouping_key, pattern_id) DO UPDATE SET
    kind = excluded.kind, issue_id = excluded.issue_id, decided_by = excluded.decided_by,
    decided_at = excluded.decided_at;

-- Move all members into the pattern that remains (PatternsMerged).
-- name: MoveMembers :exec
UPDATE members SET pattern_id = sqlc.arg(target_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(source_id);

-- End the "nevers" about one part on keys that the other part brings, while members are where they were (PatternsMerged).
-- name: DropMergedNevers :exec
DELETE FROM constraints AS c
WHERE c.workspace_id = sqlc.arg(workspace_id) AND c.kind = 'cannot_link'
  AND c.pattern_id IN (sqlc.arg(target_id), sqlc.arg(source_id))
  AND (EXISTS (SELECT 1 FROM members AS m WHERE m.workspace_id = c.workspace_id
               AND m.pattern_id IN (sqlc.arg(target_id), sqlc.arg(source_id)) AND m.pattern_id <> c.pattern_id
               AND m.grouping_key = c.grouping_key)
       OR EXISTS (SELECT 1 FROM constraints AS o WHERE o.workspace_id = c.workspace_id
                  AND o.pattern_id IN (sqlc.arg(target_id), sqlc.arg(source_id)) AND o.pattern_id <> c.pattern_id
                  AND o.grouping_key = c.grouping_key AND o.kind = 'must_link'));

-- Drop the "nevers" of the source that the target has as well (PatternsMerged).
-- name: DropShadowedConstraints :exec
DELETE FROM constraints AS c
WHERE c.workspace_id = sqlc.arg(workspace_id) AND c.pattern_id = sqlc.arg(source_id) AND c.kind = 'cannot_link'
  AND EXISTS (SELECT 1 FROM constraints AS t WHERE t.workspace_id = c.workspace_id
              AND t.pattern_id = sqlc.arg(target_id) AND t.grouping_key = c.grouping_key);

-- Move the decisions of the source to the pattern that remains (PatternsMerged).
-- name: MoveConstraints :exec
UPDATE constraints SET pattern_id = sqlc.arg(target_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(source_id);

-- Move the recommendations of the source to the pattern that remains (PatternsMerged).
-- name: MoveRecommendations :exec
UPDATE recommendations SET pattern_id = sqlc.arg(target_id)
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(source_id);

-- Note where a merged pattern went, and those that were merged into it before (PatternsMerged).
-- name: NoteMerge :exec
UPDATE patterns SET merged_into = sqlc.arg(target_id)
WHERE workspace_id = sqlc.arg(workspace_id)
  AND (pattern_id = sqlc.arg(source_id) OR merged_into = sqlc.arg(source_id));

-- Write where a recommendation stands; one of a merged pattern counts for the pattern that remains (RecommendationStatusChanged).
-- name: UpsertRecommendation :exec
INSERT INTO recommendations (workspace_id, recommendation_id, pattern_id, status, changed_at, seq)
SELECT sqlc.arg(workspace_id), sqlc.arg(recommendation_id),
       coalesce((SELECT nullif(p.merged_into, '') FROM patterns AS p
                 WHERE p.workspace_id = sqlc.arg(workspace_id) AND p.pattern_id = sqlc.arg(pattern_id)), sqlc.arg(pattern_id)),
       sqlc.arg(status), sqlc.arg(changed_at)::timestamptz, sqlc.arg(seq)::bigint
ON CONFLICT (workspace_id, recommendation_id) DO UPDATE SET
    pattern_id = excluded.pattern_id, status = excluded.status, changed_at = excluded.changed_at, seq = excluded.seq;

-- Write the latest verdict on a fix of each pattern (FixVerified, FixBroken, FixInconclusive).
-- name: UpsertVerdicts :exec
INSERT INTO verdicts (workspace_id, pattern_id, fixed_at, to_status, reason, seq)
SELECT r.workspace_id, r.pattern_id, r.fixed_at, r.to_status, r.reason, r.seq
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, pattern_id text, fixed_at timestamptz, to_status text, reason text, seq bigint)
ON CONFLICT (workspace_id, pattern_id) DO UPDATE SET
    fixed_at = excluded.fixed_at, to_status = excluded.to_status, reason = excluded.reason, seq = excluded.seq;

-- Every workspace with its settings.
-- name: ListWorkspaces :many
SELECT * FROM workspaces ORDER BY workspace_id;

-- Every pattern of a workspace.
-- name: ListPatterns :many
SELECT * FROM patterns WHERE workspace_id = $1 ORDER BY pattern_id;

-- Sums over the members of each pattern of a workspace.
-- row: SummaryOfPattern
-- column pattern_id: str
-- name: SummarizeMembers :many
SELECT m.pattern_id::text AS pattern_id, count(*)::bigint AS n_members,
       sum(round(m.score * 10000))::bigint AS score_sum,
       min(m.occurred_at)::timestamptz AS first_seen_at, max(m.occurred_at)::timestamptz AS last_seen_at
FROM members AS m
WHERE m.workspace_id = $1 AND m.pattern_id IS NOT NULL
GROUP BY m.pattern_id;

-- How many members of each pattern have each key, severity, day and dimension.
-- row: TallyOfPattern
-- column value: str | None
-- name: TallyMembers :many
SELECT m.pattern_id::text AS pattern_id,
       (CASE GROUPING(m.grouping_key, m.severity, (m.occurred_at AT TIME ZONE 'UTC')::date,
                      to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24'), i.source, i.service, i.component,
                      i.error_type, i.team, i.environment)
            WHEN 511 THEN 'key' WHEN 767 THEN 'severity' WHEN 895 THEN 'day' WHEN 959 THEN 'hour_of_day'
            WHEN 991 THEN 'source' WHEN 1007 THEN 'service' WHEN 1015 THEN 'component' WHEN 1019 THEN 'error_type'
            WHEN 1021 THEN 'team' ELSE 'environment' END)::text AS kind,
       coalesce(m.grouping_key, m.severity,
                ((m.occurred_at AT TIME ZONE 'UTC')::date - date '1970-01-01')::text,
                to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24'), i.source, i.service, i.component, i.error_type,
                i.team, i.environment)::text AS value,
       count(*)::bigint AS n
FROM members AS m JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.workspace_id = $1 AND m.pattern_id IS NOT NULL
GROUP BY m.pattern_id, GROUPING SETS (
    (m.grouping_key), (m.severity), ((m.occurred_at AT TIME ZONE 'UTC')::date),
    (to_char(m.occurred_at AT TIME ZONE 'UTC', 'HH24')), (i.source), (i.service), (i.component), (i.error_type),
    (i.team), (i.environment));

-- The texts of the similarity index in the order of the log, with whose they are.
-- row: ExemplarOfIssue
-- column pattern_id: str | None
-- name: ListExemplars :many
SELECT e.seq, e.issue_id, m.pattern_id, m.grouping_key, i.title, e.exemplar
FROM exemplars AS e
JOIN members AS m ON m.workspace_id = e.workspace_id AND m.issue_id = e.issue_id
JOIN issues AS i ON i.workspace_id = e.workspace_id AND i.issue_id = e.issue_id
WHERE e.workspace_id = $1
ORDER BY e.seq;

-- Every decision of a person.
-- name: ListConstraints :many
SELECT * FROM constraints WHERE workspace_id = $1 ORDER BY grouping_key, pattern_id;

-- The decisions on some keys or about some patterns.
-- row: ConstraintsRow
-- name: FindConstraints :many
SELECT * FROM constraints
WHERE workspace_id = sqlc.arg(workspace_id)
  AND (grouping_key = ANY(sqlc.arg(grouping_keys)::text[]) OR pattern_id = ANY(sqlc.arg(pattern_ids)::text[]))
ORDER BY grouping_key, pattern_id;

-- The newest other members of a pattern with a grouping key.
-- row: Mate
-- name: ListMates :many
SELECT issue_id FROM members
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
  AND grouping_key = sqlc.arg(grouping_key) AND issue_id <> sqlc.arg(issue_id)
ORDER BY occurred_at DESC, issue_id LIMIT sqlc.arg(n);

-- Whether a workspace has another issue than one.
-- always
-- name: HasOthers :one
SELECT EXISTS (
    SELECT 1 FROM issues
    WHERE workspace_id = sqlc.arg(workspace_id) AND issue_id <> sqlc.arg(issue_id))::boolean AS has_others;

-- Whether a workspace has a member whose issue is not there.
-- always
-- name: HasStrangers :one
SELECT EXISTS (
    SELECT 1 FROM members AS m
    WHERE m.workspace_id = $1 AND NOT EXISTS (
        SELECT 1 FROM issues AS i
        WHERE i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id))::boolean AS has_strangers;

-- The latest verdict on a fix of each pattern.
-- name: ListVerdicts :many
SELECT * FROM verdicts WHERE workspace_id = $1 ORDER BY pattern_id;

-- Every recommendation that somebody has touched.
-- name: ListRecommendations :many
SELECT * FROM recommendations WHERE workspace_id = $1 ORDER BY recommendation_id;

-- Issues that no decision has been stored for yet.
-- row: UndecidedIssue
-- name: ListUndecided :many
SELECT i.issue_id FROM issues AS i
WHERE i.workspace_id = $1 AND NOT EXISTS (
    SELECT 1 FROM members AS m WHERE m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id)
ORDER BY i.issue_id;

-- Issues with their memberships, for a command on them; each by the primary keys, also on tables never analyzed.
-- row: IssueWithMembership
-- column grouping_key: str | None
-- column score: float | None
-- column linked_severity: str | None
-- name: FindIssues :many
SELECT i.issue_id, i.title, i.source, i.severity, i.service, i.component, i.error_type, i.team, i.environment,
       i.version, i.occurred_at, m.pattern_id, m.grouping_key, m.score, m.severity AS linked_severity
FROM issues AS i
LEFT JOIN LATERAL (
    SELECT o.pattern_id, o.grouping_key, o.score, o.severity FROM members AS o
    WHERE o.workspace_id = i.workspace_id AND o.issue_id = i.issue_id
    LIMIT 1
) AS m ON true
WHERE i.workspace_id = sqlc.arg(workspace_id) AND i.issue_id = ANY(sqlc.arg(issue_ids)::text[])
ORDER BY i.issue_id;

-- Earliest and latest event time of a pattern's members but some.
-- row: SeenSpan
-- column first_seen_at: datetime | None
-- column last_seen_at: datetime | None
-- always
-- name: SpanWithout :one
SELECT min(occurred_at)::timestamptz AS first_seen_at, max(occurred_at)::timestamptz AS last_seen_at
FROM members
WHERE workspace_id = sqlc.arg(workspace_id) AND pattern_id = sqlc.arg(pattern_id)
  AND NOT issue_id = ANY(sqlc.arg(issue_ids)::text[]);

-- The patterns of these issues.
-- row: PatternOfIssue
-- column pattern_id: str
-- name: PatternsOfIssues :many
SELECT DISTINCT m.pattern_id::text AS pattern_id FROM members AS m
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.issue_id = ANY(sqlc.arg(issue_ids)::text[])
  AND m.pattern_id IS NOT NULL
ORDER BY 1;

-- The patterns with an issue that has ended.
-- row: PatternWithEnd
-- column pattern_id: str
-- name: PatternsWithEnds :many
SELECT DISTINCT m.pattern_id::text AS pattern_id
FROM issues AS i JOIN members AS m ON m.workspace_id = i.workspace_id AND m.issue_id = i.issue_id
WHERE i.workspace_id = $1 AND i.ended_at IS NOT NULL AND m.pattern_id IS NOT NULL
ORDER BY 1;

-- When the latest members of a pattern happened and ended, the newest first.
-- row: LifeOfIssue
-- name: ListLives :many
SELECT m.occurred_at, i.ended_at
FROM members AS m JOIN issues AS i ON i.workspace_id = m.workspace_id AND i.issue_id = m.issue_id
WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.pattern_id = sqlc.arg(pattern_id)
ORDER BY m.occurred_at DESC, m.issue_id LIMIT sqlc.arg(n);

-- Stream sequence of the last event of a pattern that the rows hold.
-- name: VersionOf :one
SELECT version FROM patterns WHERE workspace_id = $1 AND pattern_id = $2;

-- Write the latest clustering of each workspace (ClustersComputed).
-- name: UpsertClusterings :exec
INSERT INTO clusterings (workspace_id, seq, clusters)
SELECT r.workspace_id, r.seq, r.clusters
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, seq bigint, clusters text)
ON CONFLICT (workspace_id) DO UPDATE SET seq = excluded.seq, clusters = excluded.clusters;

-- The latest clustering of a workspace.
-- name: FindClustering :one
SELECT seq, clusters FROM clusterings WHERE workspace_id = $1;

-- The hours since 1970 in which these patterns failed, since a time, of each the latest n.
-- row: HourOfPattern
-- column pattern_id: str
-- name: ListHours :many
SELECT h.pattern_id::text AS pattern_id, h.hour::bigint AS hour FROM (
    SELECT f.pattern_id, f.hour, row_number() OVER (PARTITION BY f.pattern_id ORDER BY f.hour DESC) AS place FROM (
        SELECT DISTINCT m.pattern_id, floor(extract(epoch FROM m.occurred_at) / 3600)::bigint AS hour
        FROM members AS m
        WHERE m.workspace_id = sqlc.arg(workspace_id) AND m.pattern_id = ANY(sqlc.arg(pattern_ids)::text[])
          AND m.occurred_at >= sqlc.arg(since)::timestamptz) AS f) AS h
WHERE h.place <= sqlc.arg(n)::bigint
ORDER BY 1, 2;

-- Write what became of the versions of each workspace (GroupingVersionFitted, GroupingVersionCompared, GroupingVersionActivated).
-- name: UpsertGroupings :exec
INSERT INTO groupings (workspace_id, seq, n_fits, fitted_at, active_id, active_linker)
SELECT r.workspace_id, r.seq, coalesce(r.n_fits, 0), r.fitted_at, coalesce(r.active_id, 'shipped'), r.active_linker
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(
    workspace_id text, seq bigint, n_fits bigint, fitted_at timestamptz, active_id text, active_linker text)
ON CONFLICT (workspace_id) DO UPDATE SET
    seq = excluded.seq,
    n_fits = greatest(excluded.n_fits, groupings.n_fits),
    fitted_at = coalesce(excluded.fitted_at, groupings.fitted_at);

-- Switch versions on (GroupingVersionActivated).
-- name: ActivateGroupings :exec
UPDATE groupings AS g SET active_id = r.active_id, active_linker = r.active_linker
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, active_id text, active_linker text)
WHERE g.workspace_id = r.workspace_id AND r.active_id IS NOT NULL;

-- Write the linkers that were fitted (GroupingVersionFitted).
-- name: InsertLinkers :exec
INSERT INTO linkers (workspace_id, version_id, is_better, linker)
SELECT r.workspace_id, r.version_id, r.is_better, r.linker
FROM json_to_recordset(sqlc.arg(rows)::json) AS r(workspace_id text, version_id text, is_better boolean, linker text)
ON CONFLICT (workspace_id, version_id) DO NOTHING;

-- The versions of a workspace, as far as the next event needs them.
-- name: FindGrouping :one
SELECT * FROM groupings WHERE workspace_id = $1;

-- A linker of a workspace.
-- name: FindLinker :one
SELECT is_better, linker FROM linkers WHERE workspace_id = $1 AND version_id = $2;

-- How many decisions of people are in force, and when the last of them was taken.
-- row: DecisionsInForce
-- column latest_at: datetime | None
-- always
-- name: CountDecisions :one
SELECT count(*)::bigint AS n, max(decided_at)::timestamptz AS latest_at FROM constraints WHERE workspace_id = $1;

-- Where merged patterns went.
-- row: MergeOfPattern
-- name: ListMerged :many
SELECT pattern_id, merged_into FROM patterns WHERE workspace_id = $1 AND merged_into <> '' ORDER BY pattern_id;

-- The latest texts that people wrote, with the memberships of their issues, the newest first.
-- row: TextWithMembership
-- name: ListTexts :many
SELECT e.exemplar, m.issue_id, m.pattern_id, m.grouping_key, m.score, m.severity, m.occurred_at,
       i.service, i.component, i.error_type, i.team, i.environment, i.source
FROM exemplars AS e
JOIN members AS m ON m.workspace_id = e.workspace_id AND m.issue_id = e.issue_id
JOIN issues AS i ON i.workspace_id = e.workspace_id AND i.issue_id = e.issue_id
WHERE e.workspace_id = sqlc.arg(workspace_id) AND (strpos(e.exemplar, E'\n') > 0) = true
ORDER BY e.seq DESC LIMIT sqlc.arg(n);
