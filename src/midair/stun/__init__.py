"""STUN over TCP (RFC 8489): the codec, the stream's framing, a reflector's answer, and a client."""

from midair.stun.client import StunConnection, request_binding
from midair.stun.framing import Deframer
from midair.stun.responder import respond
from midair.stun.wire import StunError

__all__ = ["Deframer", "StunConnection", "StunError", "request_binding", "respond"]
