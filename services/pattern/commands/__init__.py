"""Decisions, all pure: undecided issues, and what people ask for, become events.

Every decision changes the grouper as its events say, so that the next one builds on it; when the events cannot be
appended, the grouper must be loaded anew.
"""

from .answering import answer_contradiction, answer_suggestion
from .curating import (
    MAX_SPLIT,
    close_pattern,
    link_issue,
    merge_patterns,
    split_pattern,
    unlink_issue,
    update_pattern,
)
from .deciding import Decided, Gathered, Subject, group, measure, settle, subject_of

__all__ = [
    "MAX_SPLIT",
    "Decided",
    "Gathered",
    "Subject",
    "answer_contradiction",
    "answer_suggestion",
    "close_pattern",
    "group",
    "link_issue",
    "measure",
    "merge_patterns",
    "settle",
    "split_pattern",
    "subject_of",
    "unlink_issue",
    "update_pattern",
]
