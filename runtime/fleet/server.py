"""The ServerApp: the rounds of a fleet, from its project's configuration."""

from dataclasses import asdict
from logging import ERROR
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore import log

from ..engine.bundle import ADAPTER as INITIAL
from ..engine.bundle import Bundle, open_bundle
from ..errors import UsageError
from ..memory.environment import versions
from ..training.adapter import WEIGHTS
from ..training.adapter_config import read_plain_lora
from .folder import FleetFolder
from .ledger import Ledger
from .page import write_page
from .records import bundle_id, read_arrays, request
from .secure import SecureGrid
from .settings import FleetSettings
from .strategies import make_strategy


def server_app() -> ServerApp:
    """The app of a fleet's server."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_fleet(grid, FleetSettings.of(context.run_config), context)

    return app


def run_fleet(grid: Grid, settings: FleetSettings, context: Context) -> None:
    """All rounds of a fleet that have not been done yet.

    Args:
        context: of the ServerApp

    Raises:
        UsageError: a setting, bundle, adapter or folder that cannot be used; nothing is changed.
        MespError: too few clients, or rounds in a row that do not count. The folder has the reason, and the rounds until then.
    """
    if settings.bundle is None:
        raise UsageError('The server needs the bundle too: bundle = "FOLDER" in the project\'s configuration.')
    bundle = open_bundle(settings.bundle)
    arrays = _first(bundle, settings.adapter)
    strategy = make_strategy(settings.strategy, settings.strategy_options, settings.privacy)
    if settings.privacy.mode == "secure-aggregation":
        grid = SecureGrid(grid, context, settings, _most_targets(bundle, settings))
    folder = FleetFolder(settings.output)
    about = {
        "bundle": bundle_id(bundle),
        "model": bundle.manifest.model.origin,
        "strategy": settings.strategy,
        "strategy_options": dict(settings.strategy_options),
        "train": dict(settings.train),
        "privacy": asdict(settings.privacy),
        "versions": versions(),
    }
    name = folder.reopen(about) if settings.resume else folder.create(about)
    try:
        _rounds(grid, settings, bundle, arrays, Ledger(strategy, settings, bundle, folder, _done(folder)), folder, name)
        folder.finish("done")
    except Exception as error:
        log(ERROR, "mesp: %s", error)
        folder.finish("failed", str(error))
        raise
    finally:
        write_page(settings.output)
        folder.release()


def _rounds(
    grid: Grid,
    settings: FleetSettings,
    bundle: Bundle,
    arrays: ArrayRecord,
    ledger: Ledger,
    folder: FleetFolder,
    name: str,
) -> None:
    done, last = _done(folder), folder.last_adapter()
    if last is not None:
        arrays = read_arrays(last / WEIGHTS, bundle.manifest.lora)

    def config() -> ConfigRecord:
        return request(name, bundle_id(bundle), settings.train, settings.round_seconds)

    if not folder.rounds():
        ledger.begin(grid, arrays, config())
    if settings.rounds > done:
        ledger.start(
            grid,
            arrays,
            num_rounds=settings.rounds - done,
            timeout=settings.round_seconds,
            train_config=config(),
            evaluate_config=config(),
        )


def _most_targets(bundle: Bundle, settings: FleetSettings) -> int:
    """Of one client in one round.

    Raises:
        UsageError: the settings do not say.
    """
    if "steps" not in settings.train:
        raise UsageError("Secure aggregation needs to know how long a client's round is: give train.steps.")
    return int(settings.train["steps"]) * int(settings.train.get("grad_accumulation", 1)) * bundle.manifest.tokens


def _done(folder: FleetFolder) -> int:
    """The last round that is done."""
    rounds = folder.rounds()
    return rounds[-1].round if rounds else 0


def _first(bundle: Bundle, adapter: Path | None) -> ArrayRecord:
    """The adapter that the fleet begins with."""
    if adapter is None:
        return read_arrays(bundle.path / INITIAL, bundle.manifest.lora)
    read_plain_lora(adapter)
    return read_arrays(adapter / WEIGHTS, bundle.manifest.lora)
