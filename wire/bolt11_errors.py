"""How an invoice can be wrong (BOLT 11): read from somebody, or asked of us to write."""

from wire.bitcoin.bech32 import InvalidBech32


class InvalidInvoice(ValueError):
    """The text is no invoice that may be paid."""


class NotBech32(InvalidInvoice):
    """The text is mistyped; `why` is the rule of bech32 that it breaks."""

    def __init__(self, why: InvalidBech32) -> None:
        self.why = why
        super().__init__(f"not an invoice: {why}")


class WrongChecksumKind(InvalidInvoice):
    """The checksum is that of bech32m, which invoices do not use."""

    def __init__(self) -> None:
        super().__init__("not an invoice: a bech32m checksum")


class UnknownPrefix(InvalidInvoice):
    """The text is for a network, or of a kind, that we do not know."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        super().__init__(f"{prefix!r} begins no invoice of a known network")


class BadAmount(InvalidInvoice):
    """The amount is not digits and a multiplier, or more than all bitcoin."""

    def __init__(self, amount: str) -> None:
        self.amount = amount
        super().__init__(f"{amount!r} is no amount")


class SubMillisatoshi(InvalidInvoice):
    """The amount has a part too small to be sent."""

    def __init__(self, amount: str) -> None:
        self.amount = amount
        super().__init__(f"{amount!r} is no whole number of millisatoshi")


class TruncatedInvoice(InvalidInvoice):
    """The text ends inside the named part."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(f"the invoice ends inside its {part}")


class MissingField(InvalidInvoice):
    """A field that every invoice must have is not there, or not in its length."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"the invoice has no valid {field}")


class BothDescriptions(InvalidInvoice):
    """A description and the hash of one exclude each other."""

    def __init__(self) -> None:
        super().__init__("the invoice has a description and the hash of one")


class MalformedField(InvalidInvoice):
    """The contents of a field cannot be what its letter says."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        super().__init__(f"field {letter} is malformed")


class NotMinimalField(InvalidInvoice):
    """A number begins with zeros."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        super().__init__(f"field {letter} begins with zeros")


class UnknownRequiredFeature(InvalidInvoice):
    """Paying takes something that we do not know."""

    def __init__(self, bit: int) -> None:
        self.bit = bit
        super().__init__(f"the invoice requires feature bit {bit}")


class MissingFeatureDependency(InvalidInvoice):
    """A feature is set without one that it cannot do without."""

    def __init__(self, feature: str, needs: str) -> None:
        self.feature, self.needs = feature, needs
        super().__init__(f"the invoice sets {feature} without {needs}")


class BadInvoiceSignature(InvalidInvoice):
    """The signature is not that of the payee, or of nobody."""

    def __init__(self) -> None:
        super().__init__("the invoice's signature does not hold")


class HighSignature(InvalidInvoice):
    """The payee is named, and the signature is not in the one form allowed then."""

    def __init__(self) -> None:
        super().__init__("the invoice's signature has a high S")


class UnwritableInvoice(ValueError):
    """We were asked to write what no invoice can say."""

    def __init__(self, field: str, why: str) -> None:
        self.field, self.why = field, why
        super().__init__(f"no invoice can say this {field}: {why}")
