"""The schema: migrated and declared are the same; what a newer or foreign file meets."""

import importlib
import pkgutil
import re
from pathlib import Path

import pysqlite3.dbapi2 as driver
import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateTable

import catalog
from catalog import engine, schema, statement
from catalog.engine import Catalog
from catalog.errors import CatalogRefused
from tests.catalog.making import CLUSTER_ID


def _definitions(connection: sa.Connection) -> dict[str, str]:
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: re.sub(r"\s+", " ", sql) for name, sql in rows if "sqlite_" not in name}


def _made_by_create(path: Path) -> dict[str, str]:
    engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    with sa.create_engine(f"sqlite:///{path}", module=driver).connect() as connection:
        made = _definitions(connection)
    connection.engine.dispose()
    return made


def test_migrations_make_exactly_the_declared_schema(tmp_path: Path) -> None:
    """Every table and index, with its options, in SQLite's own words."""
    migrated = _made_by_create(tmp_path / "catalog.sqlite")
    del migrated["alembic_version"]
    declared = sa.create_engine("sqlite://", module=driver)
    with declared.connect() as connection:
        schema.metadata.create_all(connection)
        assert migrated == _definitions(connection)
    declared.dispose()


def test_head_revision_is_the_newest_migration() -> None:
    """The constant that opening compares with."""
    config = Config()
    config.set_main_option("script_location", str(Path(catalog.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD_REVISION]


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """Code must not touch what it does not know."""
    path = tmp_path / "catalog.sqlite"
    engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    connection = driver.connect(str(path), isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(CatalogRefused, match="newer Trivet"):
        Catalog.open(path)


def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    """Some other SQLite file under the name."""
    path = tmp_path / "catalog.sqlite"
    connection = driver.connect(str(path), isolation_level=None)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(CatalogRefused, match="not a catalog"):
        Catalog.open(path)


def test_s18_no_catalog_beside_nodes_with_data(tmp_path: Path) -> None:
    """Break caught: `create` without the `nodes_hold_data` check makes an empty catalog, for which every
    block on the nodes is garbage."""
    with pytest.raises(CatalogRefused, match="hold data"):
        engine.create(tmp_path / "catalog.sqlite", cluster_id=CLUSTER_ID, nodes_hold_data=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CatalogRefused, match="no catalog"):
        Catalog.open(tmp_path / "catalog.sqlite")


def test_an_existing_catalog_is_never_made_again(tmp_path: Path) -> None:
    """And a half-made one under its temporary name is no catalog and no obstacle."""
    path = tmp_path / "catalog.sqlite"
    (tmp_path / "catalog.sqlite.new").write_bytes(b"half made")
    engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    with pytest.raises(CatalogRefused, match="exists"):
        engine.create(path, cluster_id=CLUSTER_ID, nodes_hold_data=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalog.sqlite"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_catalog_that_was_never_started_can_be_closed(tmp_path: Path) -> None:
    """By a command that found something else wrong."""
    engine.create(tmp_path / "catalog.sqlite", cluster_id=CLUSTER_ID, nodes_hold_data=False)
    await Catalog.open(tmp_path / "catalog.sqlite").close()


def test_every_statement_compiles_for_both_databases() -> None:
    """With its parameters in the declared order; PostgreSQL is not run yet, but nothing must rule it out."""
    for module in pkgutil.iter_modules(catalog.__path__):
        importlib.import_module(f"catalog.{module.name}")
    assert len(statement.EVERY) > 80
    postgresql: Dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    for dialect in (SQLiteDialect_pysqlite(paramstyle="qmark"), postgresql):
        for one in statement.EVERY:
            assert one.text(dialect)
        for table in schema.metadata.sorted_tables:
            assert str(CreateTable(table).compile(dialect=dialect))
