"""Markdown in the shapes that trackers take, HTML and Atlassian's document format; and the text that HTML shows."""

import re
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

_PARSER: Final = MarkdownIt("commonmark", {"html": False})
"""Tags that stand in a text stay text, and links that run scripts are none."""

_MARKS: Final = {"strong": "strong", "em": "em"}
_LISTS: Final = {"bullet_list": "bulletList", "ordered_list": "orderedList"}

Node = dict[str, object]

_IS_HTML: Final = re.compile(
    r"\s*<(!doctype|html|head|body|p|div|span|br|ul|ol|table|h[1-6]|blockquote|pre|b|strong|em|i|a)\b[^<>]*/?>",
    re.IGNORECASE,
)
_VERBATIM: Final = re.compile(r"</?pre\b[^<>]*>", re.IGNORECASE)
"""Between two of these, spaces are shown as they are."""
_BREAKS: Final = re.compile(r"</?(p|div|br|li|tr|ul|ol|table|h[1-6]|blockquote)\b[^<>]*>", re.IGNORECASE)
_TAGS: Final = re.compile(r"</?[a-z!][^<>]*>", re.IGNORECASE)


def shown(text: str) -> str:
    """The text that HTML shows, if it begins as HTML does, as fields of HTML are filled with either; else as it is."""
    if not _IS_HTML.match(text):
        return text
    lines: list[str] = []
    for number, part in enumerate(_VERBATIM.split(text)):
        plain = unescape(_TAGS.sub("", _BREAKS.sub("\n", part))).replace("\xa0", " ")
        is_verbatim = number % 2 == 1
        lines.extend(each.rstrip() if is_verbatim else " ".join(each.split()) for each in plain.splitlines())
    return "\n".join(filter(None, lines))


def html(markdown: str) -> str:
    """The text as HTML."""
    return str(_PARSER.render(markdown))


def adf(markdown: str) -> Node:
    """The text as an Atlassian document; https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/."""
    tree = SyntaxTreeNode(_PARSER.parse(markdown))
    return {"type": "doc", "version": 1, "content": list(_blocks(tree))}


def _blocks(parent: SyntaxTreeNode) -> Iterator[Node]:
    for node in parent.children:
        match node.type:
            case "paragraph":
                yield {"type": "paragraph", "content": list(_inline(node))}
            case "heading":
                level = int(node.tag.removeprefix("h"))
                yield {"type": "heading", "attrs": {"level": level}, "content": list(_inline(node))}
            case "bullet_list" | "ordered_list":
                items = [{"type": "listItem", "content": list(_within(item))} for item in node.children]
                yield {"type": _LISTS[node.type], "content": items}
            case "fence" | "code_block":
                text = node.content.rstrip("\n")
                yield {"type": "codeBlock", "content": [{"type": "text", "text": text}] if text else []}
            case "blockquote":
                yield {"type": "blockquote", "content": list(_within(node))}
            case "hr":
                yield {"type": "rule"}
            case _:
                yield {"type": "paragraph", "content": list(_texts(node.content, ()))}


def _within(node: SyntaxTreeNode) -> Iterator[Node]:
    """What stands in a list item or a quotation, which take no headings and no rules, and are never empty."""
    found = False
    for block in _blocks(node):
        if block["type"] == "rule":
            continue
        found = True
        yield {"type": "paragraph", "content": block["content"]} if block["type"] == "heading" else block
    if not found:
        yield {"type": "paragraph", "content": []}


def _inline(node: SyntaxTreeNode, marks: tuple[Mapping[str, object], ...] = ()) -> Iterator[Node]:
    for child in node.children:
        match child.type:
            case "inline":
                yield from _inline(child, marks)
            case "strong" | "em":
                yield from _inline(child, (*marks, {"type": _MARKS[child.type]}))
            case "link":
                yield from _inline(child, (*marks, {"type": "link", "attrs": {"href": child.attrs["href"]}}))
            case "code_inline":
                # Beside a link nothing may mark what is code.
                links = tuple(mark for mark in marks if mark["type"] == "link")
                yield from _texts(child.content, (*links, {"type": "code"}))
            case "softbreak":
                yield from _texts(" ", marks)
            case "hardbreak":
                yield {"type": "hardBreak"}
            case _:
                yield from _texts(child.content, marks)


def _texts(text: str, marks: tuple[Mapping[str, object], ...]) -> Iterator[Node]:
    if text:
        yield {"type": "text", "text": text, **({"marks": list(marks)} if marks else {})}
