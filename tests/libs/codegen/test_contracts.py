"""From .proto text to Python modules."""

import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from codegen import contracts, image, model

EVENTS = """
syntax = "proto3";

package causeloop.shop.v1;

import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";

// How it went.
enum SaleOutcome {
  SALE_OUTCOME_UNSPECIFIED = 0;
  // Paid.
  SALE_OUTCOME_PAID_IN_FULL = 1;
}

// One line of a sale.
message Line {
  // What was sold.
  string article = 1;
}

// Something was
// sold to somebody.
// Emitted by shop on sale/<sale_id>.
message ThingSold {
  // Id of the sale.
  string sale_id = 1;
  // Cents.
  int64 price = 2;
  // Share.
  double share = 3;
  // Paid?
  bool is_paid = 4;
  // When.
  google.protobuf.Timestamp sold_at = 5;
  // Anything.
  google.protobuf.Struct metadata = 6;
  // What.
  repeated Line lines = 7;
  // Who.
  optional string buyer = 8;
  // How.
  SaleOutcome outcome = 9;
  // Counted by colour.
  map<string, int32> colours = 10;
}
"""
COMMANDS = """
syntax = "proto3";

package causeloop.shop.v1;

// Sell. Endpoint: shop.sell_thing.
message SellThing {
  // What.
  string article = 1;
}

// The reply.
message Sold {
  // Id.
  string sale_id = 1;
}
"""


def compiled(folder: Path, events: str = EVENTS) -> tuple[model.Context, ...]:
    target = folder / "causeloop/shop/v1"
    target.mkdir(parents=True, exist_ok=True)
    (folder / "buf.yaml").write_text("version: v2\n")
    (target / "events.proto").write_text(events)
    (target / "commands.proto").write_text(COMMANDS)
    return model.contexts(image.load(folder))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the generator writes for the .proto text above."""
    module = ModuleType("generated_shop")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(contracts.modules(compiled(tmp_path))["shop.py"], module.__dict__)  # noqa: S102  # our own text
    return module


def test_message_becomes_a_struct_that_reads_its_json(shop: ModuleType) -> None:
    """Each proto type has its Python type; lists are tuples, absent optional fields None."""
    payload = (
        b'{"sale_id":"s","price":3,"share":0.5,"is_paid":true,"sold_at":"2026-11-22T01:02:03Z",'
        b'"metadata":{"a":[1]},"lines":[{"article":"x"}],"outcome":"paid_in_full","colours":{"red":2}}'
    )
    sold = msgspec.json.decode(payload, type=shop.ThingSold)
    assert isinstance(sold.lines, tuple)
    assert sold.buyer is None
    assert sold.outcome is shop.SaleOutcome.PAID_IN_FULL
    assert sold.colours == {"red": 2}
    assert payload == msgspec.json.encode(sold)


def test_message_without_a_required_field_is_refused(shop: ModuleType) -> None:
    """A bare field of the first release is always present."""
    with pytest.raises(msgspec.ValidationError, match="sale_id"):
        msgspec.json.decode(b"{}", type=shop.ThingSold)


def test_comments_become_docstrings(shop: ModuleType) -> None:
    """The contract explains itself in an editor; a sentence over two lines stays one."""
    text = str(shop.ThingSold.__doc__)
    assert text.startswith("Something was sold to somebody.\n")
    assert "price: Cents." in text
    assert "paid_in_full: Paid." in str(shop.SaleOutcome.__doc__)


def test_tables_name_aggregates_and_endpoints(shop: ModuleType) -> None:
    """What the comments say in prose is data in the module."""
    assert {shop.ThingSold: "sale"} == shop.AGGREGATES
    assert {shop.SellThing: "shop.sell_thing"} == shop.ENDPOINTS


def test_request_is_strict_and_reply_is_tolerant(shop: ModuleType) -> None:
    """Only what a client asks is held to the letter."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"article":"x","y":1}', type=shop.SellThing)
    assert msgspec.json.decode(b'{"sale_id":"s","y":1}', type=shop.Sold).sale_id == "s"


def test_field_without_a_comment_is_refused(tmp_path: Path) -> None:
    """Meaning, unit and range are part of the contract."""
    with pytest.raises(model.ContractError, match="share"):
        compiled(tmp_path, EVENTS.replace("  // Share.\n", ""))


def test_type_without_a_rule_is_refused(tmp_path: Path) -> None:
    """A new proto type needs a decision on its JSON form first."""
    with pytest.raises(model.ContractError, match="share"):
        compiled(tmp_path, EVENTS.replace("double share", "bytes share"))


def test_proto_that_does_not_compile_is_refused_in_the_words_of_buf(tmp_path: Path) -> None:
    """The message says which file and line."""
    with pytest.raises(image.BufError, match=r"events\.proto"):
        compiled(tmp_path, EVENTS.replace("double share", "dubble share"))
