"""The fields of the replies, as Core Lightning documents them."""

from typing import Any

# the fields that Core Lightning's schemas require, and those that its clients read all the same
REQUIRED = {
    "getinfo": "id alias color num_peers num_pending_channels num_active_channels num_inactive_channels "
    "version lightning-dir blockheight network fees_collected_msat address binding our_features",
    "newaddr": "bech32 p2tr",
    "fundpsbt": "psbt feerate_per_kw estimated_final_weight excess_msat reservations",
    "reservation": "txid vout was_reserved reserved reserved_to_block",
    "sendpsbt": "tx txid",
    "txprepare": "psbt unsigned_tx txid",
    "txsend": "psbt tx txid",
    "txdiscard": "unsigned_tx txid",
    "multiwithdraw": "tx txid",
    "listdescriptors": "desc timestamp active internal range next_index",
    "withdraw": "tx txid psbt",
    "bumpfee": "tx txid psbt method fee_msat",
    "listtransactions": "hash rawtx blockheight txindex locktime version inputs outputs",
    "transaction input": "txid index sequence",
    "transaction output": "index amount_msat scriptPubKey",
    "feerates": "min_acceptable max_acceptable floor estimates opening mutual_close unilateral_close "
    "unilateral_anchor_close penalty",
    "feerate estimate": "blockcount feerate smoothed_feerate",
    "onchain_fee_estimates": "opening_channel_satoshis mutual_close_satoshis unilateral_close_satoshis "
    "htlc_timeout_satoshis htlc_success_satoshis",
    "connect": "id features direction address",
    "fundchannel": "tx txid outnum channel_id channel_type mindepth",
    "multifundchannel": "tx txid channel_ids failed",
    "multifundchannel channel": "id outnum channel_id channel_type",
    "multifundchannel failure": "id method error",
    "invoice": "bolt11 payment_hash payment_secret expires_at created_index",
    "listinvoices": "label payment_hash status expires_at created_index description bolt11 amount_msat "
    "pay_index amount_received_msat paid_at payment_preimage",
    "pay": "payment_preimage destination payment_hash created_at parts amount_msat amount_sent_msat status",
    "keysend": "payment_preimage destination payment_hash created_at parts amount_msat amount_sent_msat "
    "status",
    "listpays": "payment_hash status destination created_at created_index completed_at bolt11 preimage "
    "amount_msat amount_sent_msat label",
    "xpay": "payment_preimage failed_parts successful_parts amount_msat amount_sent_msat",
    "attempt": "partid groupid state start_time amount_msat amount_sent_msat route end_time failure",
    "failure": "id payment_hash groupid partid status amount_msat amount_sent_msat created_at destination "
    "failcode failcodename erring_index erring_node erring_channel erring_direction raw_message",
    "listsendpays": "created_index id groupid payment_hash status amount_msat amount_sent_msat destination "
    "created_at partid",
    "listsendpays failed": "created_index id groupid payment_hash status created_at",
    "sendpay": "id created_index payment_hash status created_at amount_sent_msat groupid partid "
    "destination message",
    "sendonion": "id created_index payment_hash status created_at amount_sent_msat",
    "waitsendpay": "id created_index payment_hash status created_at completed_at amount_sent_msat "
    "payment_preimage",
    "createonion": "onion shared_secrets",
    "getroutes": "probability_ppm routes",
    "getroutes route": "probability_ppm amount_msat final_cltv path",
    "getroutes path": "short_channel_id_dir amount_in_msat amount_out_msat node_id_in node_id_out cltv_in "
    "cltv_out amount_msat next_node_id delay",
    "listforwards": "created_index in_channel in_htlc_id in_msat status received_time out_channel out_msat "
    "fee_msat style resolved_time",
    "delinvoice": "label payment_hash status created_index expires_at bolt11",
    "holdinvoice": "id payment_hash invoice state min_cltv created_at htlcs",
    "decode bolt11": "type valid currency created_at expiry payee min_final_cltv_expiry payment_hash "
    "signature",
    "listpeers": "id connected num_channels features",
    "listpeerchannels": "peer_id peer_connected state opener features channel_type updates feerate "
    "short_channel_id direction channel_id funding_txid funding_outnum private funding to_us_msat total_msat "
    "fee_base_msat "
    "fee_proportional_millionths dust_limit_msat their_reserve_msat our_reserve_msat spendable_msat "
    "receivable_msat minimum_htlc_in_msat minimum_htlc_out_msat maximum_htlc_out_msat their_to_self_delay "
    "our_to_self_delay "
    "max_accepted_htlcs state_changes status htlcs reestablished",
    "outputs": "txid output amount_msat scriptpubkey address status reserved blockheight",
    "channels": "peer_id our_amount_msat amount_msat funding_txid funding_output connected state channel_id "
    "short_channel_id",
    "listchannels": "source destination short_channel_id direction public amount_msat message_flags "
    "channel_flags active last_update base_fee_millisatoshi fee_per_millionth delay htlc_minimum_msat "
    "htlc_maximum_msat features",
    "listnodes": "nodeid alias color last_timestamp features addresses",
    "getroute": "id channel direction amount_msat delay style",
    "decode": "type valid currency created_at expiry payee amount_msat description min_final_cltv_expiry "
    "payment_secret features payment_hash",
    "close": "type txs txids",
    "staticbackup": "scb",
    "offer": "offer_id active single_use bolt12 used created",
    "listoffers": "offer_id active single_use bolt12 used",
    "fetchinvoice": "invoice changes",
    "listinvoices bolt12": "label payment_hash status expires_at created_index description bolt12 amount_msat"
    " local_offer_id",
    "listpays bolt12": "payment_hash status destination created_at created_index completed_at bolt12 preimage"
    " amount_msat amount_sent_msat label",
    "invoicerequest": "invreq_id single_use active bolt12 used",
    "sendinvoice": "label description payment_hash status created_index expires_at bolt12",
    "recoverchannel": "stubs",
    "emergencyrecover": "stubs",
    "getemergencyrecoverdata": "filedata can_create_penalty backed_up_channel_ids",
    "setchannel": "peer_id channel_id short_channel_id fee_base_msat fee_proportional_millionths "
    "ignore_fee_limits minimum_htlc_out_msat maximum_htlc_out_msat",
    "listclosedchannels": "peer_id channel_id opener private channel_type total_local_commitments "
    "total_remote_commitments total_htlcs_sent funding_txid funding_outnum funding_withheld leased "
    "total_msat final_to_us_msat min_to_us_msat max_to_us_msat close_cause",
    "ping": "totlen",
    "waitblockheight": "blockheight",
    "signmessage": "signature recid zbase",
    "checkmessage": "verified pubkey",
    "listconfigs": "configs",
    "plugin": "command plugins",
    "createrune": "rune unique_id",
    "checkrune": "valid",
    "showrunes": "rune unique_id restrictions restrictions_as_english",
    "rune restriction": "alternatives english",
    "rune alternative": "fieldname value condition english",
    "blacklistrune": "start end",
    "datastore": "key generation hex string",
    "sendcustommsg": "status",
    "makesecret": "secret",
    "getlog": "created_at bytes_used bytes_max log",
    "getlog line": "type time source log",
    "parsefeerate": "perkw",
    "datastoreusage": "key total_bytes",
    "listhtlcs": "created_index short_channel_id id expiry direction amount_msat payment_hash state",
    "stop": "result",
}


def check(method: str, result: dict[str, Any]) -> dict[str, Any]:
    missing = set(REQUIRED[method].split()) - result.keys()
    assert not missing, f"{method} lacks {missing}"
    return result
