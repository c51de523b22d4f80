"""What went wrong on the way, and the packet that carries it back to the origin (BOLT 4, returning errors).

The erring node authenticates its failure with the secret it shares with the origin and
encrypts it once; every node on the way back encrypts once more; the origin takes the layers
off in order until one authenticates, which names the erring node. BADONION codes never travel
this way when they come from a peer's `update_fail_malformed_htlc`: the node that received that
message makes the failure of them and sends it on as its own.
"""

from enum import IntEnum

BADONION = 0x8000
PERM = 0x4000
NODE = 0x2000
UPDATE = 0x1000


class FailureCode(IntEnum):
    """The failure codes of BOLT 4, with their flags."""

    temporary_node_failure = NODE | 2
    permanent_node_failure = PERM | NODE | 2
    required_node_feature_missing = PERM | NODE | 3
    invalid_onion_version = BADONION | PERM | 4
    invalid_onion_hmac = BADONION | PERM | 5
    invalid_onion_key = BADONION | PERM | 6
    temporary_channel_failure = UPDATE | 7
    permanent_channel_failure = PERM | 8
    required_channel_feature_missing = PERM | 9
    unknown_next_peer = PERM | 10
    amount_below_minimum = UPDATE | 11
    fee_insufficient = UPDATE | 12
    incorrect_cltv_expiry = UPDATE | 13
    expiry_too_soon = UPDATE | 14
    incorrect_or_unknown_payment_details = PERM | 15
    final_incorrect_cltv_expiry = 18
    final_incorrect_htlc_amount = 19
    channel_disabled = UPDATE | 20
    expiry_too_far = 21
    invalid_onion_payload = PERM | 22
    mpp_timeout = 23
    invalid_onion_blinding = BADONION | PERM | 24
