"""One client's queue."""

from services.gateway.subscriptions.hub import QUEUE_FRAMES_MAX, Subscriber


def test_a_client_that_does_not_keep_up_is_given_up() -> None:
    """Its queue is bounded; what did not fit marks it, and nothing is added later out of order."""
    subscriber = Subscriber("ws_1")
    for number in range(QUEUE_FRAMES_MAX + 5):
        subscriber.offer(str(number).encode())
    assert subscriber.is_slow
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX
    subscriber.queue.get_nowait()
    subscriber.offer(b"late")
    assert subscriber.queue.qsize() == QUEUE_FRAMES_MAX - 1
