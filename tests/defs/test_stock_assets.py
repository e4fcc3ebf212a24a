import errno
import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from sqlalchemy import select

from invsync_dagster.defs.imports import Progress
from invsync_dagster.inventory.copies import BackupError
from invsync_dagster.inventory.database import open_database
from invsync_dagster.inventory.imports.basis import Basis
from invsync_dagster.inventory.imports.declaration import Declaration
from invsync_dagster.inventory.imports.folder import process_file
from invsync_dagster.inventory.imports.importing import drop, import_file
from invsync_dagster.inventory.imports.keeping import copy
from invsync_dagster.inventory.status import held_imports
from invsync_dagster.inventory.tables import central_inventory
from invsync_dagster.platforms.errors import PlatformError, Recovery
from invsync_dagster.sandbox.clock import VirtualClock
from tests.defs.conftest import Installation


def metadata(result: dg.ExecuteInProcessResult, key: str) -> dict[str, object]:
    [event] = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(key)]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def snapshot(home: Installation, day: str) -> dg.ExecuteInProcessResult:
    return home.run("snapshot_day", partition_key=day)


def imported_at(home: Installation, moment: datetime, quantities: dict[str, int]) -> None:
    """Import quantities as if it were `moment`: Dagster offers the days before the machine's today alone."""
    ws = home.open()
    file = home.home.data / f"{moment:%H%M%S%f}-{len(quantities)}.csv"
    rows = "".join(f"{sku},Name,{units},0,active\n" for sku, units in quantities.items())
    file.write_text(f"sku,product_name,quantity,reserved_quantity,status\n{rows}")
    basis = Basis(ws.engine, home.home.imports, ws.configuration.settings.import_limits, moment, "test")
    assert import_file(basis, file, Declaration(as_of=moment)).state == "applied"
    ws.close()


@pytest.mark.usefixtures("each_database")
def test_a_past_day_gives_the_same_bytes_each_time(install: Callable[..., Installation]) -> None:
    home = install("one")
    noon = datetime.now(UTC).replace(hour=12) - timedelta(days=3)
    imported_at(home, noon, {"A": 5, "0012": 7})
    imported_at(home, noon + timedelta(days=1), {"A": 6})
    day = noon.date().isoformat()
    file = home.home.data / "snapshots" / f"{day}.parquet"
    first = snapshot(home, day)
    assert first.success
    content = file.read_bytes()
    assert metadata(first, "daily_snapshot")["sha256"] == hashlib.sha256(content).hexdigest()
    frame = pd.read_parquet(file)
    assert dict(zip(frame["sku"], frame["quantity"], strict=True)) == {"0012": 7, "A": 5}
    imported_at(home, noon + timedelta(days=2), {"A": 4, "NEW": 9})
    file.unlink()
    assert snapshot(home, day).success
    assert file.read_bytes() == content


def test_a_week_in_one_run_is_seven_files_and_one_open_day_spoils_no_other(
    install: Callable[..., Installation],
) -> None:
    home = install("one")
    today = datetime.now(UTC).replace(hour=12)
    imported_at(home, today - timedelta(days=9), {"A": 5})
    days = [(today - timedelta(days=back)).date().isoformat() for back in range(7, 0, -1)]
    home.clock = VirtualClock(today - timedelta(days=1))
    result = home.run(
        "snapshot_day",
        tags={"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]},
    )
    assert not result.success
    assert [event.partition for event in result.get_asset_materialization_events()] == days[:-1]
    files = {path.stem: path.read_bytes() for path in (home.home.data / "snapshots").glob("*.parquet")}
    assert sorted(files) == days[:-1]
    assert len(set(files.values())) == 1


def test_a_day_that_is_not_over_has_no_snapshot_yet(install: Callable[..., Installation]) -> None:
    home = install("one")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    home.clock = VirtualClock(datetime.now(UTC) - timedelta(days=3))
    assert not snapshot(home, yesterday).success
    assert not (home.home.data / "snapshots" / f"{yesterday}.parquet").exists()


@pytest.mark.usefixtures("each_database")
def test_an_import_that_zeroes_too_much_is_held_and_red(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({f"S{number}": 50 for number in range(60)}, ["one"])
    home.clock.advance(60)
    rows = "\n".join(f"S{number},Name,0,0,active" for number in range(60))
    (home.home.imports / "zeros.csv").write_text(f"sku,product_name,quantity,reserved_quantity,status\n{rows}\n")
    result = home.run("import_files", selection=[dg.AssetKey("imports")])
    assert result.success
    assert metadata(result, "imports")["held_files"] == 1
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert checks == {"nothing_held": False, "all_rows_taken": True}
    assert metadata(home.run("incremental"), "inventory_snapshot")["units"] == 3000


def test_what_is_held_stays_red_after_later_files_until_it_is_decided(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({f"S{number}": 50 for number in range(60)}, ["one"])
    home.clock.advance(60)
    header = "sku,product_name,quantity,reserved_quantity,status\n"
    (home.home.imports / "zeros.csv").write_text(header + "".join(f"S{n},Name,0,0,active\n" for n in range(60)))
    assert home.run("import_files", selection=[dg.AssetKey("imports")]).success
    home.clock.advance(60)
    (home.home.imports / "more.csv").write_text(header + "NEW,Name,5,0,active\n")
    later = home.run("import_files")
    (check,) = [e for e in later.get_asset_check_evaluations() if e.check_name == "nothing_held"]
    assert (check.passed, check.metadata["held_files"].value) == (False, 1)
    assert check.description is not None
    assert check.description.startswith("inventory zeros.csv is held since 60 s: 60 of 60 SKUs")
    ws = home.open()
    with ws.engine.connect() as connection:
        (held,) = held_imports(connection, ws.clock.now())
    assert f"(import id {held.import_id})" in check.description
    basis = Basis(ws.engine, home.home.imports, ws.configuration.settings.import_limits, home.clock.now(), "ann")
    drop(basis, held.import_id, reason="an empty file")
    ws.close()
    (check,) = [e for e in home.run("audit").get_asset_check_evaluations() if e.check_name == "nothing_held"]
    assert (check.passed, check.description) == (True, "Nothing is held.")


def test_the_progress_of_a_file_is_said_whenever_a_multiple_was_passed() -> None:
    said: list[str] = []
    progress = Progress("stock.csv", said.append)
    for rows in (0, 99_999, 100_001, 150_000, 250_000, 299_999):
        progress("read", rows)
    progress("applied", 0)
    progress("applied", 100_000)
    assert said == ["stock.csv: 100001 rows read", "stock.csv: 250000 rows read", "stock.csv: 100000 rows applied"]


def test_bad_rows_are_counted_and_shown(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.home.imports.mkdir(parents=True, exist_ok=True)
    (home.home.imports / "stock.csv").write_text(
        "sku,product_name,quantity,reserved_quantity,status\nA,Good,5,0,active\nB,Bad,-1,0,active\n"
    )
    result = home.run("import_files", selection=[dg.AssetKey("imports")])
    figures = metadata(result, "imports")
    assert (figures["added"], figures["rejected_rows"]) == (1, 1)
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert {name: check.passed for name, check in checks.items()} == {"nothing_held": True, "all_rows_taken": False}
    assert checks["all_rows_taken"].description == (
        "1 rows rejected, 0 files as a whole.\n"
        "stock.csv: 1 of 2 rows; of the others 1 of 1 rows are like line 3 column 'quantity': the number is negative - "
        "write 0 or more"
    )


def test_rows_that_were_refused_stay_red_until_their_file_is_declared_rightly(
    install: Callable[..., Installation],
) -> None:
    home = install("one")

    def drop_in(declared: str) -> tuple[object, str]:
        home.clock.advance(60)
        home.home.imports.mkdir(parents=True, exist_ok=True)
        (home.home.imports / "stock.csv").write_text('sku,quantity\nA,"1,500"\nB,5\n')
        if declared:
            (home.home.imports / "stock.csv.yaml").write_text(declared)
        result = home.run("import_files", selection=[dg.AssetKey("imports")])
        (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "all_rows_taken"]
        return check.passed, check.description or ""

    assert drop_in("")[0] is False
    passed, said = drop_in("")
    assert passed is False
    assert "stock.csv: already imported at " in said
    assert "declare the file's mark" in said
    assert drop_in('decimal_mark: "."\n') == (True, "0 rows rejected, 0 files as a whole.")
    ws = home.open()
    with ws.engine.connect() as connection:
        assert (
            dict(connection.execute(select(central_inventory.c.sku, central_inventory.c.quantity)).all())["A"] == 1500
        )
    ws.close()


def test_a_file_that_breaks_its_import_stays_and_the_others_go_in(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("one")
    home.home.imports.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b", "c"):
        (home.home.imports / f"{name}.csv").write_text(f"sku,quantity\n{name},5\n")

    def breaking(basis: Basis, path: Path) -> object:
        if path.name == "b.csv":
            raise ZeroDivisionError("a fault of ours")
        return process_file(basis, path)

    monkeypatch.setattr("invsync_dagster.defs.imports.process_file", breaking)
    result = home.run("import_files", selection=[dg.AssetKey("imports")])
    assert not result.success
    failure = result.failure_data_for_node("imports")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.description == (
        "1 files can't be taken in: b.csv: ZeroDivisionError, the run's log says how"
    )
    logged = [one.user_message for one in home.instance.all_logs(result.run_id)]
    assert any("ZeroDivisionError: a fault of ours" in message for message in logged)
    assert [path.name for path in home.home.imports.glob("*.csv")] == ["b.csv"]
    ws = home.open()
    with ws.engine.connect() as connection:
        assert sorted(connection.execute(select(central_inventory.c.sku)).scalars()) == ["a", "c"]
    ws.close()


def test_a_list_that_is_cut_off_warns_until_it_is_whole_and_the_table_shows_what_it_leaves_out(
    install: Callable[..., Installation],
) -> None:
    home = install("one")

    def drop_in(name: str, skus: int, units: int) -> dg.ExecuteInProcessResult:
        home.clock.advance(60)
        home.home.imports.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"S{number}\t{units}\tDEFAULT\n" for number in range(skus)) + "FBA\t\tAMAZON_EU\n"
        (home.home.imports / name).write_text(f"seller-sku\tquantity\tfulfillment-channel\n{rows}")
        return home.run("import_files", selection=[dg.AssetKey("imports")])

    def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
        (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "nothing_held"]
        return found

    assert check(drop_in("stock 2026-07-01.txt", 40, 5)).passed
    short = drop_in("stock 2026-07-02.txt", 15, 6)
    assert (metadata(short, "imports")["absent"], metadata(short, "imports")["left_out"]) == (25, 1)
    [event] = short.get_asset_materialization_events()
    table = event.materialization.metadata["worst"]
    assert isinstance(table, dg.TableMetadataValue)
    (row,) = table.records
    assert (row.data["absent"], row.data["left_out"], row.data["state"]) == (25, 1, "held")
    said = check(short)
    assert not said.passed
    assert said.description is not None
    assert "stock 2026-07-02.txt brings 15 SKUs, and brought 40 as stock 2026-07-01.txt on " in said.description
    assert metadata(drop_in("other.txt", 2, 7), "imports")["held_files"] == 0
    assert not check(home.run("audit")).passed


def test_a_full_disk_at_one_file_keeps_no_other_out(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("one")
    home.home.imports.mkdir(parents=True, exist_ok=True)
    (home.home.imports / "a.csv").write_text("name,price\nA,5\n")
    (home.home.imports / "b.csv").write_text("sku,quantity\nB,6\n")

    def full(source: Path, target: Path, sha256: str) -> None:
        if target.parent.name == "rejected":
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, sha256)

    monkeypatch.setattr("invsync_dagster.inventory.imports.importing.copy", full)
    result = home.run("import_files", selection=[dg.AssetKey("imports")])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert (
        "1 files can't be taken in: a.csv: the disk of the database or of the import folder is full - free space, and give the"
        " file again; nothing of it went in"
    ) in str(failure.step_failure_data)
    assert [path.name for path in home.home.imports.iterdir() if path.is_file()] == ["a.csv"]
    ws = home.open()
    with ws.engine.connect() as connection:
        assert connection.execute(select(central_inventory.c.sku, central_inventory.c.quantity)).all() == [("B", 6)]
    ws.close()


def test_more_promised_than_there_is_shows_in_the_snapshot(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.home.imports.mkdir(parents=True, exist_ok=True)
    (home.home.imports / "stock.csv").write_text(
        "sku,product_name,quantity,reserved_quantity,status\nA,Short,5,8,active\nB,Fine,5,0,active\n"
    )
    result = home.run("import_files")
    assert metadata(result, "inventory_snapshot")["negative_skus"] == 1
    [check] = [e for e in result.get_asset_check_evaluations() if e.check_name == "not_negative"]
    assert not check.passed


def test_what_is_red_comes_with_all_its_rows_in_a_file_that_is_written_every_half_hour(
    install: Callable[..., Installation],
) -> None:
    home = install("one")
    imported_at(home, home.clock.now(), {f"S{number:02}": 5 for number in range(30)})
    home.home.imports.mkdir(parents=True, exist_ok=True)
    (home.home.imports / "short.csv").write_text(
        "sku,product_name,quantity,reserved_quantity,status\n"
        + "".join(f"N{number:02},Short,5,8,active\n" for number in range(25))
    )
    home.run("import_files", selection=[dg.AssetKey("imports")])
    audit = home.run("audit")
    (check,) = [e for e in audit.get_asset_check_evaluations() if e.check_name == "mappings_clear"]
    table = check.metadata["worst"]
    assert isinstance(table, dg.TableMetadataValue)
    assert len(table.records) == 20
    report = Path(str(check.metadata["report"].value))
    assert report == home.home.reports / "latest" / "mappings.csv"
    assert len(report.read_text().splitlines()) == 1 + 55
    shown = metadata(home.run("incremental"), "inventory_snapshot")
    negative = Path(str(shown["report"]))
    assert len(negative.read_text().splitlines()) == 1 + 25
    imported_at(home, home.clock.now(), {"N00": 50})
    home.run("incremental")
    assert len(negative.read_text().splitlines()) == 1 + 25
    home.clock.advance(1801)
    home.run("incremental")
    assert len(negative.read_text().splitlines()) == 1 + 24


def test_all_changes_that_are_late_are_in_the_file(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({f"S{number:02}": 5 for number in range(25)}, ["one"])
    home.platforms["one"].error = PlatformError(Recovery.REAUTHENTICATE, "unauthorized", "the key is not right")
    first = metadata(home.run("incremental"), "inventory_changes")
    assert "report" not in first
    home.clock.advance(1000)
    late = metadata(home.run("incremental"), "inventory_changes")
    lines = Path(str(late["report"])).read_text("utf-8-sig").splitlines()
    assert lines[0].startswith("channel,sku,item_id,location_id,shown,desired,")
    assert {line.split(",")[1] for line in lines[1:]} == {f"S{number:02}" for number in range(25)}


def test_the_backup_is_proven_and_only_the_latest_are_kept(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    result = home.run("backup")
    assert result.success
    told = metadata(result, "database_backup")
    path = Path(str(told["path"]))
    assert (told["removed"], told["sealed"], told["segments"]) == (0, False, 0)
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.description) == (True, "Restored; its books add up.")
    engine = open_database(f"sqlite:///{path / 'database'}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT quantity FROM central_inventory WHERE sku = 'A'").scalar() == 5
    engine.dispose()
    for hour in range(50):
        shutil.copytree(path, path.with_name(f"invsync-202001{hour // 24 + 1:02d}T{hour % 24:02d}0000Z"))
    home.clock.advance(3600)
    assert metadata(home.run("backup"), "database_backup")["removed"] == 4
    assert len(list(path.parent.iterdir())) == 48


def test_a_backup_that_can_not_be_restored_is_red_and_takes_no_proven_one_away(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    first = Path(str(metadata(home.run("backup"), "database_backup")["path"]))
    for hour in range(47):
        shutil.copytree(first, first.with_name(f"invsync-202001{hour // 24 + 1:02d}T{hour % 24:02d}0000Z"))

    def damaged(*arguments: object) -> None:
        raise BackupError("database is damaged")

    home.clock.advance(3600)
    monkeypatch.setattr("invsync_dagster.defs.upkeep.prove", damaged)
    result = home.run("backup")
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert check.description == f"The backup {_latest(first.parent)} can't be restored: database is damaged"
    assert len(list(first.parent.iterdir())) == 49


def _latest(folder: Path) -> str:
    return max(path.name for path in folder.iterdir())


def test_a_backup_whose_books_do_not_add_up_is_kept_and_red(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    engine = open_database(home.home.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE central_inventory SET quantity = 6")
    engine.dispose()
    [check] = home.run("backup").get_asset_check_evaluations()
    assert (check.passed, check.description) == (False, "Restored; its books have 1 differences.")


def test_a_sku_that_no_channel_lists_shows_in_the_audit(install: Callable[..., Installation]) -> None:
    home = install("one")
    home.stock({"A": 5}, ["one"])
    clear = {e.check_name: e for e in home.run("audit").get_asset_check_evaluations()}
    assert clear["mappings_clear"].passed
    imported_at(home, home.clock.now(), {"B": 1})
    after = {e.check_name: e for e in home.run("audit").get_asset_check_evaluations()}
    assert not after["mappings_clear"].passed
    assert after["mappings_clear"].metadata["unmapped_skus"].value == 1
    assert after["adds_up"].passed
