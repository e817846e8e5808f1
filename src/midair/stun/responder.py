"""The reflector's answer to one message: where it came from (RFC 8489 section 6.3). Pure.

No credentials are asked for: a binding tells the asker only their own address. Nothing is ever sent anywhere but back,
and over TCP a source cannot be forged, so the answer amplifies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from midair.endpoint import Endpoint
from midair.stun.wire import (
    BINDING,
    Attribute,
    ErrorCode,
    Fingerprint,
    Message,
    MessageClass,
    OtherAddress,
    ResponseOrigin,
    UnknownAttributes,
    XorMappedAddress,
    decode,
    encode,
)

__all__ = ["respond"]


def respond(
    request: bytes, source: Endpoint, others: Sequence[Endpoint] = (), origin: Endpoint | None = None
) -> bytes | None:
    """The response to a binding request; None for what gets none: indications, responses, other methods (section 6.3).

    ``others`` is where else we can be asked, ``origin`` where we were: without it the others may be in vain, when we
    are behind a NAT ourselves and do not know our own address.

    An unknown comprehension-required attribute is answered with error 420 (section 6.3.1).

    Raises: StunError when it is no STUN message; close the connection then.
    """
    asked = decode(request)
    if asked.message_class is not MessageClass.REQUEST or asked.method != BINDING:
        return None
    unknown = asked.unknown_required()
    answer: tuple[Attribute, ...]
    if unknown:
        message_class = MessageClass.ERROR
        answer = (ErrorCode(420, "Unknown Attribute"), UnknownAttributes(unknown))
    else:
        message_class = MessageClass.SUCCESS
        answer = (XorMappedAddress(source), *(OtherAddress(endpoint) for endpoint in others))
        if others and origin is not None:
            answer = (*answer, ResponseOrigin(origin))
    response = Message(
        method=BINDING, message_class=message_class, transaction_id=asked.transaction_id, attributes=answer
    )
    # Section 7: who sends FINGERPRINT uses it to tell STUN from other things, so it goes back with one.
    return encode(response, fingerprint=asked.first(Fingerprint) is not None)
