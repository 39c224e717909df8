"""Apache Kafka and its tools: the jars that java/pom.xml names, fetched by Maven once, and our classes beside it."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

JAVA_DIR = Path(__file__).parent.parent / "java"
LIBS = JAVA_DIR / "target" / "libs"
CLASSES = JAVA_DIR / "target" / "classes"
SMALL_JVM = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+UsePerfData")
"""A JVM that starts fast and stays small: serial collector, first compiler only."""
OPEN_TO_PYTHON = tuple(f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util", "util.concurrent"))
"""What Py4J needs to call the methods of collections whose classes are not public."""


class JavaMissing(Exception):
    """There is no java, javac or mvn here, or Maven could not fetch Apache Kafka."""


def classpath() -> str:
    """The class path of Apache Kafka, its tools and our classes, fetched and compiled at the first call.

    Raises: JavaMissing, saying what is missing.
    """
    _prepare()
    return f"{LIBS}/*:{CLASSES}"


def java(*arguments: str, jvm: tuple[str, ...] = SMALL_JVM) -> list[str]:
    """The command line of a JVM with Apache Kafka on its class path. Raises: JavaMissing."""
    logging = f"-Dlog4j2.configurationFile={JAVA_DIR / 'log4j2.properties'}"
    return ["java", *jvm, logging, "-cp", classpath(), *arguments]


@lru_cache(maxsize=1)
def _prepare() -> None:
    for command in ("java", "javac", "mvn"):
        if shutil.which(command) is None:
            raise JavaMissing(f"no {command} on the path")
    pom, complete = JAVA_DIR / "pom.xml", LIBS / ".complete"
    if _older(complete, pom):
        shutil.rmtree(LIBS, ignore_errors=True)
        maven = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=target/libs"]
        _run([*maven, "-DincludeScope=runtime"], "Maven could not fetch Apache Kafka")
        complete.touch()
    sources = sorted(JAVA_DIR.glob("*.java"))
    if any(_older(CLASSES / f"{source.stem}.class", source) for source in sources):
        command = ["javac", "-d", str(CLASSES), "-cp", f"{LIBS}/*", *map(str, sources)]
        _run(command, "the classes beside pom.xml do not compile")


def _older(made: Path, source: Path) -> bool:
    return not made.exists() or made.stat().st_mtime < source.stat().st_mtime


def _run(command: list[str], otherwise: str) -> None:
    result = subprocess.run(command, cwd=JAVA_DIR, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise JavaMissing(f"{otherwise}: {(result.stderr or result.stdout).strip()[-500:]}")
