"""What can be wrong with a channel, by remedy (DESIGN §5).

The base class says what to do: `Warn` costs the peer its connection, `FailChannel` costs it
the channel, `Refused` is our own caller's mistake and changes nothing.
"""

from wire.units import Msat, Sat


class ChannelError(Exception):
    """A rule of a channel was broken."""


class Warn(ChannelError):
    """Send `warning` and close the connection; the channel itself stays as it was."""


class FailChannel(ChannelError):
    """Send `error` and go to chain with the latest commitment."""


class Refused(ChannelError):
    """Our own side asked for what the protocol forbids. Nothing has changed."""


class UnexpectedMessage(Warn):
    def __init__(self, message: str, phase: str) -> None:
        self.message, self.phase = message, phase
        super().__init__(f"{message} does not belong here: the channel is {phase}")


class HtlcBelowMinimum(Warn):
    def __init__(self, htlc_id: int, amount_msat: Msat, minimum_msat: Msat) -> None:
        self.htlc_id, self.amount_msat, self.minimum_msat = htlc_id, amount_msat, minimum_msat
        super().__init__(f"HTLC {htlc_id} of {amount_msat} msat is below the minimum of {minimum_msat} msat")


class CltvExpiryOutOfRange(Warn):
    def __init__(self, htlc_id: int, cltv_expiry: int) -> None:
        self.htlc_id, self.cltv_expiry = htlc_id, cltv_expiry
        super().__init__(f"HTLC {htlc_id} has cltv_expiry {cltv_expiry}, which is not a block height")


class WrongHtlcId(Warn):
    def __init__(self, htlc_id: int, expected: int) -> None:
        self.htlc_id, self.expected = htlc_id, expected
        super().__init__(f"HTLC id {htlc_id} where {expected} was next")


class TooManyHtlcs(Warn):
    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit
        super().__init__(f"{count} HTLCs would be pending, {limit} are allowed")


class TooMuchInFlight(Warn):
    def __init__(self, total_msat: Msat, limit_msat: Msat) -> None:
        self.total_msat, self.limit_msat = total_msat, limit_msat
        super().__init__(f"{total_msat} msat would be in flight, {limit_msat} are allowed")


class TooMuchDust(Warn):
    def __init__(self, exposure_msat: Msat, limit_msat: Msat) -> None:
        self.exposure_msat, self.limit_msat = exposure_msat, limit_msat
        super().__init__(f"{exposure_msat} msat would have no output, {limit_msat} are allowed")


class BelowReserve(Warn):
    def __init__(self, balance_msat: int, needed_msat: int) -> None:
        self.balance_msat, self.needed_msat = balance_msat, needed_msat
        super().__init__(f"{balance_msat} msat would be left where reserve and fees need {needed_msat}")


class UnknownHtlc(Warn):
    def __init__(self, htlc_id: int) -> None:
        self.htlc_id = htlc_id
        super().__init__(f"there is no committed HTLC {htlc_id} to remove")


class WrongPreimage(Warn):
    def __init__(self, htlc_id: int) -> None:
        self.htlc_id = htlc_id
        super().__init__(f"the preimage does not hash to HTLC {htlc_id}'s payment_hash")


class NotBadOnion(Warn):
    def __init__(self, htlc_id: int, failure_code: int) -> None:
        self.htlc_id, self.failure_code = htlc_id, failure_code
        super().__init__(f"failure code {failure_code:#x} for HTLC {htlc_id} lacks the BADONION bit")


class NothingToSign(Warn):
    def __init__(self) -> None:
        super().__init__("commitment_signed covers no change")


class WrongSignature(Warn):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the signature of {what} does not hold")


class WrongSignatureCount(Warn):
    def __init__(self, count: int, expected: int) -> None:
        self.count, self.expected = count, expected
        super().__init__(f"{count} HTLC signatures where {expected} were needed")


class WrongSecret(FailChannel):
    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"the secret of commitment {number} does not match its point")


class NotTheOpener(FailChannel):
    def __init__(self) -> None:
        super().__init__("only the opener may send update_fee")


class UnreasonableFeerate(FailChannel):
    def __init__(self, feerate_per_kw: int, low: int, high: int) -> None:
        self.feerate_per_kw, self.low, self.high = feerate_per_kw, low, high
        super().__init__(f"a feerate of {feerate_per_kw} per kw is not between {low} and {high}")


class CannotAffordFee(FailChannel):
    def __init__(self, balance_msat: int, needed_msat: int) -> None:
        self.balance_msat, self.needed_msat = balance_msat, needed_msat
        super().__init__(f"the opener has {balance_msat} msat where fee and reserve need {needed_msat}")


class UnacceptableOpening(FailChannel):
    """A field of open_channel or accept_channel that we cannot live with."""

    def __init__(self, field: str, value: object, why: str) -> None:
        self.field, self.value, self.why = field, value, why
        super().__init__(f"{field} {value}: {why}")


class BadShutdownScript(Warn):
    def __init__(self, script: bytes, why: str) -> None:
        self.script, self.why = script, why
        super().__init__(f"shutdown script {script.hex()}: {why}")


class UnacceptableClosingFee(Warn):
    def __init__(self, fee_sat: Sat, low_sat: Sat, high_sat: Sat) -> None:
        self.fee_sat, self.low_sat, self.high_sat = fee_sat, low_sat, high_sat
        super().__init__(f"a closing fee of {fee_sat} sat is not between {low_sat} and {high_sat}")


class ClosingFeeOutsideRanges(FailChannel):
    def __init__(self, fee_sat: Sat, low_sat: Sat, high_sat: Sat) -> None:
        self.fee_sat, self.low_sat, self.high_sat = fee_sat, low_sat, high_sat
        super().__init__(f"a closing fee of {fee_sat} sat where both had said {low_sat} to {high_sat}")


class CannotOffer(Refused):
    """Our own add would break a limit of the peer or of the channel; `cause` is that limit."""

    def __init__(self, cause: Warn) -> None:
        self.cause = cause
        super().__init__(str(cause))


class NotUsable(Refused):
    def __init__(self, phase: str) -> None:
        self.phase = phase
        super().__init__(f"the channel is {phase}")


class NotRemovable(Refused):
    def __init__(self, htlc_id: int) -> None:
        self.htlc_id = htlc_id
        super().__init__(f"HTLC {htlc_id} is not ours to remove now")


class NotOurPreimage(Refused):
    def __init__(self, htlc_id: int) -> None:
        self.htlc_id = htlc_id
        super().__init__(f"that preimage does not belong to HTLC {htlc_id}")


class FeeRefused(Refused):
    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the feerate cannot be changed: {why}")
