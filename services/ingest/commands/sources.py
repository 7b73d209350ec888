"""The kinds of systems that failures come from."""

CUSTOM_SOURCE = "custom_api"
"""What a source becomes that is not in the table, and the default."""

KNOWN_SOURCES = frozenset(
    {
        # Issue trackers and code hosts.
        *("azure_devops", "bitbucket", "bugzilla", "clickup", "github", "gitlab", "jira", "linear"),
        *("asana", "jira_dc", "monday", "redmine", "shortcut", "trello", "youtrack", "notion"),
        # Incident management and alerting.
        *("alertmanager", "betterstack", "firehydrant", "grafana_oncall", "incident_io", "opsgenie"),
        *("ilert", "jsm_ops", "pagerduty", "pagertree", "rootly", "squadcast", "statuspage", "victorops"),
        *("xmatters", "zenduty"),
        # IT service management, governance.
        *("archer", "audit", "bmc_helix", "freshservice", "ivanti", "servicenow", "solarwinds"),
        # Customers and support.
        *("dynamics365", "freshdesk", "front", "gorgias", "helpscout", "hubspot", "intercom", "kustomer"),
        *("pylon", "salesforce", "zendesk", "zoho_desk"),
        # Errors, cloud and monitoring.
        *("appdynamics", "aws_cloudwatch", "azure_monitor", "bugsnag", "checkly", "cloudflare"),
        *("datadog", "dynatrace", "elastic", "gcp_monitoring", "grafana", "honeycomb", "logicmonitor"),
        *("nagios", "newrelic", "pingdom", "prometheus", "rollbar", "sentry", "uptimerobot", "zabbix"),
        *("aws_health", "checkmk", "coralogix", "graylog", "healthchecks", "honeybadger", "librenms"),
        *("instana", "logz_io", "site24x7", "splunk_observability", "statuscake", "thousandeyes"),
        # Build and deployment.
        *("argocd", "buildkite", "circleci", "github_actions", "jenkins", "kubernetes", "launchdarkly"),
        *("netlify", "semaphore", "terraform", "vercel"),
        # Data.
        *(
            "airbyte",
            "airflow",
            "bigquery",
            "clickhouse",
            "dagster",
            "databricks",
            "dbt",
            "elasticsearch",
            "fivetran",
            "mongodb",
            "mongodb_atlas",
            "mysql",
            "postgresql",
            "prefect",
            "snowflake",
        ),
        # Security.
        *("aws_security_hub", "crowdstrike", "okta", "qualys", "snyk", "splunk", "sumologic", "wiz"),
        *("auth0", "aws_guardduty", "datadog_security", "entra_id", "gitguardian", "huntress"),
        *("microsoft_defender", "microsoft_sentinel", "sentinelone", "vanta", "wazuh"),
        *("elastic_security", "google_scc", "onepassword", "rapid7_idr", "sophos_central"),
        # Conversations.
        *("email", "slack", "teams"),
        CUSTOM_SOURCE,
    }
)
"""Every source slug that keeps its own name."""

_ALIASES = {
    "atlassian_jira": "jira",
    "azuredevops": "azure_devops",
    "better_stack": "betterstack",
    "cloudwatch": "aws_cloudwatch",
    "dbt_cloud": "dbt",
    "google_cloud_monitoring": "gcp_monitoring",
    "microsoft_teams": "teams",
    "new_relic": "newrelic",
    "pager_duty": "pagerduty",
    "postgres": "postgresql",
    "service_now": "servicenow",
    "splunk_oncall": "victorops",
    "sumo_logic": "sumologic",
    "terraform_cloud": "terraform",
}


def known_source(source: str | None) -> str:
    """The slug of a source in any usual spelling; one that nobody knows becomes "custom_api"."""
    if source is None or source in KNOWN_SOURCES:
        return source or CUSTOM_SOURCE
    slug = "_".join(source.lower().replace("-", " ").replace(".", " ").replace("_", " ").split())
    slug = _ALIASES.get(slug, slug)
    return slug if slug in KNOWN_SOURCES else CUSTOM_SOURCE
