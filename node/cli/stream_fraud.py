"""What `rill verify-fraud` does."""

from pathlib import Path

import msgspec
import typer

from node.stream.fraud import MAX_PROOF_BYTES, NotAProof, Verdict, judge

FAILED = 1


def verify(file: Path, *, as_json: bool) -> int:
    """Judge the file and say what it shows; return the exit code."""
    try:
        with file.open("rb") as opened:
            verdict = judge(opened.read(MAX_PROOF_BYTES + 1))
    except OSError as error:
        typer.echo(f"rill: {file}: {(error.strerror or str(error)).lower()}", err=True)
        return FAILED
    except NotAProof as why:
        typer.echo(f"rill: {file}: {why}", err=True)
        return FAILED
    typer.echo(msgspec.json.encode(verdict).decode() if as_json else _told(verdict))
    return 0


def _told(verdict: Verdict) -> str:
    place = "which is a chunk of that content" if verdict.is_of_content else "whatever its place in it"
    return (
        f"Fraud. The node {verdict.provider} signed an offer of chunk {verdict.chunk} of {verdict.root}, "
        f"{place}, for {verdict.price_msat} msat. It revealed the key by taking the payment "
        f"{verdict.payment_hash}, and what that key opens is not the chunk."
    )
