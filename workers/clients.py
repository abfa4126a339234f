"""Clients of the outside systems, built once for each process from settings, and closed by it."""

from contextlib import AsyncExitStack
from typing import TypeVar

import openai
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime

from activities import transactions
from activities.activation import ActivationSteps
from activities.chain import ChainSteps
from activities.channels import FollowUpSteps, senders
from activities.configuration import Configuration
from activities.drift import DriftSteps
from activities.feeds import FeedSteps
from activities.fetch import Fetcher
from activities.llm import LlmSteps
from activities.llm_client import LlmClient
from activities.migration import ModelComparison, ModelSwitch
from activities.news import IntakeSteps, NewsSteps
from activities.privacy import ColumnSteps, MemorySteps, RunSteps
from activities.sources import SourceSteps
from activities.store import StoreSteps
from activities.token2022 import Token2022Chain, wallet
from activities.training import TrainingSteps
from db.pool import Pool
from domain.steps import Role
from workers.settings import WorkerSettings, redactor_of

V = TypeVar("V")


async def connect_temporal(address: str, namespace: str, *, runtime: Runtime | None = None) -> Client:
    """A Temporal client with the one data converter that everything uses."""
    return await Client.connect(address, namespace=namespace, data_converter=pydantic_data_converter, runtime=runtime)


async def steps_owners(
    role: Role,
    settings: WorkerSettings,
    pool: Pool,
    resources: AsyncExitStack,
    configuration: Configuration | None = None,
) -> tuple[object, ...]:
    """The objects that implement a role's steps; what they open is closed by `resources`."""
    match role:
        case Role.ORCHESTRATOR:
            return StoreSteps(pool), IntakeSteps(pool), ModelSwitch(pool)
        case Role.SOURCES:
            fetcher = Fetcher(connect_to=settings.sources_connect_to, ca_file=settings.sources_ca_file)
            await resources.enter_async_context(fetcher)
            return SourceSteps(pool, fetcher), FeedSteps(pool, fetcher)
        case Role.LLM:
            client = openai.AsyncOpenAI(
                api_key=_needed(settings.openai_api_key).get_secret_value(),
                base_url=settings.openai_base_url,
                max_retries=0,
            )
            await resources.enter_async_context(client)
            llm = LlmClient(client, pool, configuration, settings.prompts_dir)
            return LlmSteps(pool, llm), NewsSteps(pool, llm), ModelComparison(pool, llm)
        case Role.CHAIN:
            rpc = await resources.enter_async_context(transactions.connect(_needed(settings.solana_rpc_url)))
            chain = Token2022Chain(
                rpc,
                transactions.Transactions(pool, rpc),
                publisher=wallet(_needed(settings.publisher_wallet_secret), "PUBLISHER_WALLET_SECRET"),
                resolver=wallet(_needed(settings.resolver_wallet_secret), "RESOLVER_WALLET_SECRET"),
            )
            return (ChainSteps(pool, chain, settings.market_uri_base),)
        case Role.TRAINING:
            training = TrainingSteps(
                pool,
                _needed(settings.model_signing_key).get_secret_value(),
                _needed(settings.model_verify_key),
                threshold=settings.retraining_threshold,
                batch=settings.feedback_batch_size,
            )
            resources.callback(training.close)
            return training, ActivationSteps(pool), DriftSteps(pool, _needed(settings.model_verify_key))
        case Role.CHANNELS:
            channels = senders(
                smtp_url=_secret(settings.smtp_url),
                email_from=settings.email_from,
                sms=(settings.sms_api_url, _secret(settings.sms_api_key)),
                whatsapp=(settings.whatsapp_api_url, _secret(settings.whatsapp_api_key)),
                webhook_stand_in=settings.webhook_stand_in_url,
            )
            return (FollowUpSteps(pool, await resources.enter_async_context(channels)),)
        case Role.PRIVACY:
            url = _needed(settings.redis_url).get_secret_value()
            redactor = redactor_of(_needed(settings.pii_hash_key).get_secret_value(), settings.pii_patterns)
            return RunSteps(pool, redactor), MemorySteps(pool, url, redactor), ColumnSteps(pool, redactor)


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _needed(value: V | None) -> V:
    assert value is not None, "settings.load has checked what each role needs"
    return value
