"""ISO 4217: the codes Klaviyo takes for `value_currency`."""

from typing import Final

from schemas.event import Losses

__all__ = ["currency"]

# ISO 4217 list one (currencies in use), with those withdrawn since 2023, which old orders
# carry: ANG, BGN, CUC, HRK, SLL, ZWL.
_CODES: Final = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD
    BTN BWP BYN BZD CAD CDF CHF CLF CLP CNY COP CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP
    ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR
    IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD
    MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR
    PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SLL
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS
    VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG ZWL
    """.split()  # noqa: SIM905  176 quoted strings would be read by nobody
)


def currency(raw: str | None, losses: Losses) -> str | None:
    """Return the code in upper case; None if absent or lost."""
    if raw in _CODES:
        return raw
    text = (raw or "").strip().upper()
    if text in _CODES:
        return text
    if text:
        losses.lose("currency")
    return None
