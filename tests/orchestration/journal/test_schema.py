import pytest

from orchestration.journal.contract import JournalVersionError
from orchestration.journal.schema import FOLDER, migrate
from orchestration.journal.store import connect


@pytest.fixture
def connection(tmp_path):
    opened = connect(tmp_path / "journal.db")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "migrations"
    made.mkdir()
    (made / "0001_first.sql").write_text("CREATE TABLE one (a INTEGER) STRICT;\n")
    return made


def test_migrations_are_applied_once_and_in_order(connection, folder):
    (folder / "0002_second.sql").write_text("INSERT INTO one VALUES (1);\n")

    assert migrate(connection, folder) == ["0001_first.sql", "0002_second.sql"]
    assert migrate(connection, folder) == []
    assert connection.execute("SELECT count(*) FROM one").fetchone() == (1,)


def test_later_migration_is_applied_to_an_older_journal(connection, folder):
    migrate(connection, folder)
    (folder / "0002_second.sql").write_text("ALTER TABLE one ADD COLUMN b TEXT;\n")

    assert migrate(connection, folder) == ["0002_second.sql"]


def test_changed_migration_is_refused(connection, folder):
    migrate(connection, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE other (a INTEGER) STRICT;\n")

    with pytest.raises(JournalVersionError, match="changed"):
        migrate(connection, folder)


def test_journal_of_a_newer_program_is_refused(connection, folder):
    (folder / "0002_second.sql").write_text("ALTER TABLE one ADD COLUMN b TEXT;\n")
    migrate(connection, folder)
    (folder / "0002_second.sql").unlink()

    with pytest.raises(JournalVersionError, match="not known"):
        migrate(connection, folder)


def test_failing_migration_leaves_nothing_behind(connection, folder):
    (folder / "0002_second.sql").write_text(
        "CREATE TABLE two (a INTEGER);\nINSERT INTO none VALUES (1);\n"
    )

    with pytest.raises(Exception, match="none"):
        migrate(connection, folder)

    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "one" in tables
    assert "two" not in tables


def test_the_journals_own_migrations_apply(connection):
    assert migrate(connection) == sorted(path.name for path in FOLDER.glob("*.sql"))
