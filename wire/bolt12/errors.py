"""How an offer, an invoice request or an invoice can be wrong, one class for each broken rule (BOLT 12).

Who sent it may be told the sentence, and which field it is about.
"""

from wire.bitcoin.bech32 import InvalidBech32
from wire.codec import DecodeError


class Unacceptable(ValueError):
    """A rule is broken: it must not be answered, or not be paid. `field` is the record it is about."""

    field: int | None = None


class NotText(Unacceptable):
    """The text is mistyped or cut; `why` is the rule of the encoding that it breaks."""

    def __init__(self, why: InvalidBech32) -> None:
        self.why = why
        super().__init__(f"not readable: {why}")


class WrongPrefix(Unacceptable):
    """The text is of another kind than was asked for."""

    def __init__(self, prefix: str, expected: str) -> None:
        self.prefix, self.expected = prefix, expected
        super().__init__(f"it begins with {prefix[:10]!r}, not with {expected!r}")


class Malformed(Unacceptable):
    """The bytes are no stream of records, or a record's contents cannot be what its number says."""

    def __init__(self, why: DecodeError) -> None:
        self.why = why
        super().__init__(f"malformed: {why}")


class FieldMissing(Unacceptable):
    """A field that must be there is not."""

    def __init__(self, name: str, field: int) -> None:
        self.name, self.field = name, field
        super().__init__(f"{name} is missing")


class FieldForbidden(Unacceptable):
    """A field that must not be there is."""

    def __init__(self, name: str, field: int) -> None:
        self.name, self.field = name, field
        super().__init__(f"{name} must not be there")


class OutOfRange(Unacceptable):
    """A record whose number belongs to another kind of message."""

    def __init__(self, field: int) -> None:
        self.field = field
        super().__init__(f"record {field} does not belong there")


class FeatureRequired(Unacceptable):
    """It takes a feature that we do not know."""

    def __init__(self, name: str, field: int, bit: int) -> None:
        self.name, self.field, self.bit = name, field, bit
        super().__init__(f"{name} requires the unknown feature bit {bit}")


class WrongChain(Unacceptable):
    """It is for other chains than ours."""

    def __init__(self, field: int) -> None:
        self.field = field
        super().__init__("it is not for our chain")


class NothingToPay(Unacceptable):
    """The amount is zero."""

    def __init__(self, name: str, field: int) -> None:
        self.name, self.field = name, field
        super().__init__(f"{name} is zero")


class Expired(Unacceptable):
    """Its time is over."""

    def __init__(self, what: str, expires_at: int, field: int) -> None:
        self.what, self.expires_at, self.field = what, expires_at, field
        super().__init__(f"the {what} expired at {expires_at}")


class QuantityOutOfBounds(Unacceptable):
    """The offer sells no such number of items at once."""

    field = 86

    def __init__(self, quantity: int, most: int) -> None:
        self.quantity, self.most = quantity, most
        super().__init__(f"a quantity of {quantity} is not between 1 and {most or 'any number'}")


class TooLittle(Unacceptable):
    """Less is offered than is asked for."""

    field = 82

    def __init__(self, amount_msat: int, expected_msat: int) -> None:
        self.amount_msat, self.expected_msat = amount_msat, expected_msat
        super().__init__(f"{amount_msat} msat are less than the {expected_msat} msat asked for")


class TooMuch(Unacceptable):
    """So many items cost more than there is."""

    field = 86

    def __init__(self, amount_msat: int) -> None:
        self.amount_msat = amount_msat
        super().__init__(f"{amount_msat} msat are more than all bitcoin")


class CurrencyUnknown(Unacceptable):
    """The amount is in money that we cannot convert."""

    field = 6

    def __init__(self, currency: str) -> None:
        self.currency = currency
        super().__init__(f"the amount is in {currency!r}, which we cannot convert")


class BadName(Unacceptable):
    """A BIP 353 name with characters that none has."""

    field = 91

    def __init__(self) -> None:
        super().__init__("invreq_bip_353_name has characters other than 0-9, a-z, A-Z, -, _ and .")


class BadSignature(Unacceptable):
    """The signature is not that of the key it should be from."""

    field = 240

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the signature of the {what} does not hold")


class PathsDoNotMatch(Unacceptable):
    """There is not one price for each blinded path."""

    field = 162

    def __init__(self, paths: int, prices: int) -> None:
        self.paths, self.prices = paths, prices
        super().__init__(f"the invoice has {paths} paths and {prices} prices of paths")


class NoUsablePath(Unacceptable):
    """Every path takes a feature that we do not know."""

    field = 162

    def __init__(self) -> None:
        super().__init__("every path of the invoice requires features unknown to us")


class NotMirrored(Unacceptable):
    """The invoice is for something else than was requested."""

    def __init__(self, field: int) -> None:
        self.field = field
        super().__init__(f"record {field} of the invoice is not that of the request")


class WrongIssuer(Unacceptable):
    """The invoice is signed by somebody else than the offer names."""

    field = 176

    def __init__(self) -> None:
        super().__init__("the invoice is not from whom the request was sent to")


class WrongAmount(Unacceptable):
    """The invoice asks for another amount than was agreed on."""

    field = 170

    def __init__(self, amount_msat: int, expected_msat: int) -> None:
        self.amount_msat, self.expected_msat = amount_msat, expected_msat
        super().__init__(f"the invoice asks for {amount_msat} msat instead of {expected_msat} msat")
