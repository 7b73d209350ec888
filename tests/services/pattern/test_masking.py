"""What repeats stays, what changes with every occurrence goes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.pattern.engine.grouping import EXACT_KEY_VERSION
from services.pattern.engine.masking import (
    comparable,
    has_usable_text,
    is_machine_text,
    key_of,
    mask,
    masked_title,
    readable,
)
from services.pattern.engine.wording import wording_of, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Took 19.05 seconds to spawn", "took <num> seconds to spawn"),
        ("Connection to 10.0.0.7:5432 refused", "connection to <host> refused"),
        ("from fe80::1:2 to node-7.db.internal", "from <host> to <host>"),
        ("job 4f1c2e9a-0b1d-4c3e-9f00-1234567890ab lost", "job <uuid> lost"),
        ("block blk_-1608999687919862906 of size 67108864", "block blk_<num> of size <num>"),
        ("session deadbeef01 expired at 0xc0ffee", "session <num> expired at <num>"),
        ("2026-01-02T03:04:05Z job failed at 03:04:05", "<time> job failed at <time>"),
        ("failed on Thu Aug 04 15:31:25 PDT 2005 again", "failed on <time> again"),
        ("cannot open /var/log/app/x.log: denied", "cannot open <path>: denied"),
        ("GET https://api.example.com/v1/x?a=1 failed", "get <url> failed"),
        ("mail to ann.b@example.com bounced", "mail to <mail> bounced"),
        ('relation "users" does not exist', "relation <str> does not exist"),
        ("agent v1.2.3-rc1 crashed", "agent <num> crashed"),
        ("invalid user bob from host", "invalid user <str> from host"),
        ("disk 91% full, 12GB left", "disk <num> full, <num> left"),
        ("network-vif-plugged:4f1c2e9a-0b1d-4c3e-9f00-1234567890ab", "network-vif-plugged:<uuid>"),
        ("pod checkout-7f9c8d-x2k4p restarted", "pod checkout-<id> restarted"),
        ("task 1 2 3 done", "task <num> done"),
        ("connection from 10.0.0.1 () at port 3", "connection from <host> (<host>) at port <num>"),
        ("worker.init() failed", "worker.init() failed"),
        ("NullPointerException in OrderService.total", "nullpointerexception in orderservice.total"),
    ],
)
def test_a_machines_text_loses_its_volatile_parts(text: str, expected: str) -> None:
    """Ids, numbers, addresses, paths, times, versions and quoted values become placeholders."""
    assert expected == mask(text, is_machine=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Firefox 57 crashes on 'New Tab'", "firefox 57 crashes on 'new tab'"),
        ("Order 1234567 is stuck", "order <num> is stuck"),
        ("See https://example.com/x", "see <url>"),
    ],
)
def test_what_a_person_wrote_keeps_its_meaning(text: str, expected: str) -> None:
    """Small numbers, names and quotes stay."""
    assert expected == mask(text, is_machine=False)


def test_the_source_says_who_wrote_a_title_else_its_signs_do() -> None:
    """A known source decides; an unknown one is judged by its share of digits and symbols."""
    assert is_machine_text("datadog", "Everything is slow")
    assert not is_machine_text("jira", "ERR_42: 0x0001 [7/9] == 1")
    assert is_machine_text("custom_api", "[pod-7f9c/x2] exit=137 (OOMKilled) after 512MiB")
    assert not is_machine_text("custom_api", "Customers cannot log in since this morning")


def test_text_without_words_is_not_usable() -> None:
    """Placeholders and signs alone say nothing."""
    assert not has_usable_text("<uuid> <num>: ...")
    assert not has_usable_text("")
    assert has_usable_text("<num> out of memory")


def test_placeholders_make_no_texts_alike() -> None:
    """Only words are compared."""
    assert comparable("<uuid> vm <str> lost") == "~ vm ~ lost"


def test_keys_do_not_run_into_each_other() -> None:
    """Parts are kept apart; absent and empty are the same; case does not matter."""
    assert key_of("text", "ab", "c") != key_of("text", "a", "bc")
    assert key_of("text", None, "c") == key_of("text", "", "C ")
    assert len(key_of("text", "a")) == 32


def test_a_readable_title_is_one_short_line() -> None:
    """List brackets go, volatile parts become dots, two hundred characters are enough."""
    assert readable("['Crash in  the\n editor']") == "Crash in the editor"
    assert (
        readable("Job 4f1c2e9a-0b1d-4c3e-9f00-1234567890ab failed: exit=137 [x]")
        == "Job … failed: exit=… [x]"
    )
    assert len(readable("word " * 100)) <= 200
    assert readable("  ") == "Unnamed failure"


def test_mask_of_what_people_write_drops_quantities_and_keeps_other_numbers() -> None:
    """How long it took this time is not what failed; an error code is."""
    assert mask("Login returns 502 after 12.5 s", is_machine=False) == "login returns 502 after <num> s"
    assert (
        mask("Disk 93% full, 4 GiB left on node 7", is_machine=False)
        == "disk <num>% full, <num> gib left on node 7"
    )


_WORDS = [
    "0x",
    "x",
    "v",
    "T",
    "Jan",
    "Mar",
    "May",
    "marks",
    "Thu",
    "user ",
    "19",
    "20",
    "2005",
    "1",
    "7",
    "404",
    "deadbeef",
    "failed",
    "job",
    "ms",
    "\u0663",
]
_PIECES = st.sampled_from([*_WORDS, *"/:.-_=, %#'@\""])


@given(st.lists(_PIECES, max_size=14).map("".join), st.sampled_from(["datadog", "jira", "custom_api"]))
@example("failed on Aug 4 15:31:25 PDT 2005 on", "datadog")
@example("failed on Aug 4 15:31:25 PDT 7005 on", "datadog")
@example("job 0x1f-q of 7x1f-q", "datadog")
def test_what_is_remembered_of_a_shape_holds_for_every_title_of_it(title: str, source: str) -> None:
    """Titles that differ in digits share what is remembered, and each is masked as it would be alone."""
    for each in (title.translate(str.maketrans("0123456789", "8765432109")), title):
        is_machine = is_machine_text(source, each)
        assert (mask(each, is_machine=is_machine), is_machine) == masked_title(source, each)


KEYS = {
    ("datadog", "Took 19.05 seconds to spawn", "checkout"): "5cd8d12543d89d118aeb5f2b2006cd94",
    ("datadog", "Connection to 10.0.0.7:5432 refused", None): "9431e273bf261bf40ee52952d89e36b7",
    ("datadog", "connection from 10.0.0.1 () at port 3", None): "7600df61b817a6432b81197a25712a29",
    ("datadog", "Disk full on () volume", "storage"): "34e1f4dc01875d43e743026114e3e404",
    ("datadog", "worker.init() failed", None): "e883c32ad77efc7f9c21800b9aac1dc8",
    ("datadog", "2026-01-02T03:04:05Z job failed at 03:04:05", None): "8af1e43b5d65a0b20611b2dfecee17d7",
    ("datadog", 'cannot open /var/log/x.log: "denied"', None): "0845d75691d8fc24a2a38fec9d08981c",
    (
        "custom_api",
        "Login fails for ann@example.com since 3 March",
        "auth",
    ): "4dcc06473521fe5b211dc5c0e261c3a1",
    ("custom_api", "Export of 12 MB takes 40 seconds", None): "3e035e4fc88e9d3a82285a23a89c5133",
    ("custom_api", "Checkout: card 4711 is refused in v2.3", "checkout"): "33158874fe919fa41f78caf456e794e5",
}


def test_the_keys_that_decisions_hang_on_stay_as_they_are() -> None:
    """A masking that gives other keys is another version beside this one, or what people decided is obeyed no longer."""
    assert EXACT_KEY_VERSION == "exact-key@2026-11-22"
    for (source, title, service), key in KEYS.items():
        assert key_of("text", service, masked_title(source, title)[0]) == key, title


@pytest.mark.parametrize(
    "text",
    [
        "login fails\nconnection refused\n@auth",
        "login fails\nconnection refused\n",
        "login fails\nconnection refused\nAAAA",
        "login fails\n",
        "login fails",
    ],
)
def test_of_a_report_in_an_earlier_format_the_title_is_compared(text: str) -> None:
    """The log keeps what earlier builds wrote, and the service has to start with it."""
    new, old = wording_of(written("Login fails", "login fails", "")), wording_of(text)
    assert (old.title, old.vectors[0].tolist()) == (new.title, new.vectors[0].tolist())
    assert old.terms.buckets.tolist() == new.terms.buckets.tolist()
