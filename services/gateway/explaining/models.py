"""Asking a model behind any OpenAI-compatible endpoint: which one a workspace may ask, and one question to it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
import structlog
from contracts import ingest
from msgspec import Struct
from runtime.outbound import Outbound, OutboundError

from services.gateway.engine.redacting import Redaction

log = structlog.get_logger("gateway.models")

OPENAI: Final = "https://api.openai.com/v1"
OPERATOR: Final = "operator"
"""What stands for the operator's host."""
SECONDS: Final[Mapping[ingest.AnalysisTier, float]] = {
    ingest.AnalysisTier.FAST: 15.0,
    ingest.AnalysisTier.BALANCED: 30.0,
    ingest.AnalysisTier.DEEP: 90.0,
}
"""How long one try may take."""
FAILURES_MAX: Final = 5
REST_SECONDS: Final = 60.0
"""An endpoint that has failed so often in a row is asked nothing for so long; then each failure lets it rest again."""
_FAILING_MAX: Final = 1000
"""Endpoints whose failures are remembered; beyond it the one that failed first is forgotten."""
_OF_QUESTION: Final = frozenset({400, 413, 422})
_TOKENS_MAX: Final[Mapping[ingest.AnalysisTier, int]] = {
    ingest.AnalysisTier.FAST: 600,
    ingest.AnalysisTier.BALANCED: 1000,
    ingest.AnalysisTier.DEEP: 2000,
}


class ModelError(Exception):
    """The endpoint gave no answer; the message says why.

    may_retry: whether another try has a chance. is_of_question: it says nothing of how others would be answered.
    """

    def __init__(self, message: str, *, may_retry: bool, is_of_question: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry
        self.is_of_question = is_of_question


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a workspace's questions go, and what is taken out of them.

    api_key: sent as a bearer token; empty: none. models: by tier.
    is_trusted: the operator named the address, so it may be inside our network. workspace_id: who named it otherwise.
    """

    base_url: str
    api_key: str
    models: Mapping[ingest.AnalysisTier, str]
    redaction: Redaction
    is_trusted: bool
    workspace_id: str = ""

    @property
    def host(self) -> str:
        """The host, for the record, which the workspace reads: of the operator's network it learns nothing."""
        return OPERATOR if self.is_trusted else urlsplit(self.base_url).netloc.rpartition("@")[2]


class _Message(Struct):
    content: str | None = None


class _Choice(Struct):
    message: _Message


class _Completion(Struct):
    choices: tuple[_Choice, ...] = ()


_Asked: TypeAlias = tuple[str, str, str]
"""Address, key, model."""


class _Failing(Struct):
    """How often an endpoint failed in a row, and until when it rests, by the clock of `Models`."""

    n_failures: int = 0
    rests_until: float = 0.0


class Models:
    """Asks endpoints, and one that keeps failing only now and then, so that a fault of it costs a bounded time.

    trusted, guarded: HTTP to addresses of the operator's, and of workspaces' choosing. clock: seconds.
    """

    def __init__(
        self, *, trusted: Outbound, guarded: Outbound, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._trusted = trusted
        self._guarded = guarded
        self._clock = clock
        # What one workspace's key has used up says nothing of another's, nor one model of another.
        self._failing: dict[_Asked, _Failing] = {}

    async def ask(
        self, endpoint: Endpoint, tier: ingest.AnalysisTier, messages: Sequence[ingest.ModelMessage]
    ) -> str:
        """The text of the model's answer. Raises ModelError, at once while the endpoint rests."""
        key = (endpoint.base_url, endpoint.api_key, endpoint.models[tier])
        known = self._failing.get(key)
        if known is not None and self._clock() < known.rests_until:
            raise ModelError(
                f"the model failed {FAILURES_MAX} times in a row; it is asked again within a minute",
                may_retry=False,
            )
        try:
            answer = await self._answer(endpoint, tier, messages)
        except ModelError as error:
            # The operator's endpoint is everybody's: questions that it refuses must not take it from others.
            if not error.is_of_question:
                self._note_failure(key)
            raise
        self._failing.pop(key, None)
        return answer

    def _note_failure(self, key: _Asked) -> None:
        if key not in self._failing and len(self._failing) >= _FAILING_MAX:
            del self._failing[next(iter(self._failing))]
        known = self._failing.setdefault(key, _Failing())
        known.n_failures += 1
        if known.n_failures >= FAILURES_MAX:
            known.rests_until = self._clock() + REST_SECONDS

    async def _answer(
        self, endpoint: Endpoint, tier: ingest.AnalysisTier, messages: Sequence[ingest.ModelMessage]
    ) -> str:
        question = {
            "model": endpoint.models[tier],
            "messages": [{"role": message.role, "content": message.text} for message in messages],
            "temperature": 0,
            "max_tokens": _TOKENS_MAX[tier],
            "response_format": {"type": "json_object"},
        }
        outbound = self._trusted if endpoint.is_trusted else self._guarded.of(endpoint.workspace_id)
        try:
            body = await outbound.post_json(
                f"{endpoint.base_url.rstrip('/')}/chat/completions",
                msgspec.json.encode(question),
                token=endpoint.api_key,
                seconds=SECONDS[tier],
            )
            completion = msgspec.json.decode(body, type=_Completion)
        except OutboundError as error:
            passing = error.status is None or error.status in (408, 425, 429) or error.status >= 500
            log.info("model.failed", trusted=endpoint.is_trusted, error=str(error))
            message = "the operator's model does not answer" if endpoint.is_trusted else str(error)
            is_refused = error.status in _OF_QUESTION
            raise ModelError(message, may_retry=passing, is_of_question=is_refused) from error
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ModelError("the endpoint does not speak the API", may_retry=False) from error
        text = completion.choices[0].message.content if completion.choices else None
        if not text:
            raise ModelError("the model answered nothing", may_retry=True, is_of_question=True)
        return text
