"""Model versions for tests: made by hand, signed and registered as training does it."""

from datetime import UTC, datetime

from db import models
from db.models import Registration
from db.pool import Pool
from domain import signing
from domain.artifact import (
    Encoders,
    FeatureStats,
    Histogram,
    LeadArtifact,
    LeadMetrics,
    Reference,
    Stats,
    artifact_bytes,
)
from domain.gate import Check, GateDecision
from domain.model_metrics import Bin, Calibration, Evaluation, Interval, Slice

SIGNING_KEY = "11" * 32
VERIFY_KEY = signing.public_key(SIGNING_KEY)

CUTOFF = datetime(2026, 11, 20, 3, 17, tzinfo=UTC)


def lead_artifact(version: int, *, auc: float = 0.7, intercept: float = 0.0) -> LeadArtifact:
    """A model that gives every lead the same probability, that of its intercept."""
    histogram = Histogram(edges=(0.5,), counts=(200, 200))
    return LeadArtifact(
        version=version,
        coefficients=(0.0,) * 7,
        intercept=intercept,
        encoders=Encoders(
            intent={"info": 0, "lead_capture": 1, "support": 2},
            sentiment={"negative": 0, "neutral": 1, "positive": 2},
            urgency={"high": 0, "normal": 1},
        ),
        fills=(0.65, 100, 12, 5_000, 1, 1, 1),
        tenants=(7, 17),
        feature_stats=FeatureStats(
            score=Stats(mean=0.65, std=0.1, min=0.5, max=0.8),
            details_len=Stats(mean=100, std=40, min=1, max=900),
            hour=Stats(mean=12, std=5, min=0, max=23),
        ),
        reference=Reference(score=histogram, details_len=histogram, hour=histogram),
        metrics=LeadMetrics(auc=auc, n_train=400, n_test=100, baseline_rate=0.3),
    )


def evaluation(auc: float) -> Evaluation:
    """What the held-out rows of such a version might have given."""
    return Evaluation(
        rows=100,
        positives=30,
        quality=Interval(value=auc, low=auc - 0.05, high=auc + 0.05),
        log_loss=0.6,
        brier=0.2,
        calibration=Calibration(
            bins=(Bin(count=50, said=0.2, came_true=0.18), Bin(count=50, said=0.4, came_true=0.42)), error=0.02
        ),
        threshold=0.5,
        precision=0.6,
        recall=0.5,
        f1=0.55,
        slices=(
            Slice(kind="tenant", group="17", rows=60, positives=20, quality=auc, standard_error=0.04),
            Slice(kind="intent", group="support", rows=5, positives=1, quality=None, standard_error=None),
        ),
        roc=((0.0, 0.0), (0.3, 0.6), (1.0, 1.0)),
    )


def gate(auc: float) -> GateDecision:
    """A gate that it passed."""
    check = Check(name="quality", ok=True, sentence=f"The AUC of {auc:.4f} is at or above 0.65.", numbers={})
    return GateDecision(ok=True, metric="auc", quality=auc, minimum=0.65, checks=(check,))


async def register_lead(
    pool: Pool, version: int, *, auc: float = 0.7, intercept: float = 0.0, key: str = SIGNING_KEY
) -> Registration:
    """Register a version of the lead model, signed with `key`."""
    async with pool.acquire() as connection, connection.transaction():
        sha256 = await models.put_artifact(
            connection, artifact_bytes(lead_artifact(version, auc=auc, intercept=intercept))
        )
        wanted = Registration(
            model="lead",
            version=version,
            sha256=sha256,
            signature=signing.sign(key, "lead", version, sha256).hex(),
            n_train=400,
            n_test=100,
            trained_from=None,
            cutoff=CUTOFF,
            data_sha256="1" * 64,
            code_version="0.2.0",
            evaluation=evaluation(auc),
            gate=gate(auc),
        )
        assert await models.register(connection, wanted, "clotho")
    return wanted
