"""Settings from environment variables, as the apache/kafka container image maps them.

KAFKA_LOG_RETENTION_MS is log.retention.ms: the prefix goes, the rest is lower case, `_` is a dot, `__` an underscore,
`___` a dash. Variables that the image's scripts use for the JVM are no settings. If only KAFKA_ADVERTISED_LISTENERS is
given, the node listens on the same ports on every interface, as the image does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PREFIX: Final = "KAFKA_"

FOR_THE_JVM: Final = frozenset(
    {
        "KAFKA_VERSION",
        "KAFKA_HEAP_OPTS",
        "KAFKA_LOG4J_OPTS",
        "KAFKA_OPTS",
        "KAFKA_JMX_OPTS",
        "KAFKA_JVM_PERFORMANCE_OPTS",
        "KAFKA_GC_LOG_OPTS",
        "KAFKA_LOG4J_ROOT_LOGLEVEL",
        "KAFKA_LOG4J_LOGGERS",
        "KAFKA_TOOLS_LOG4J_LOGLEVEL",
        "KAFKA_JMX_HOSTNAME",
    }
)

FOR_THE_IMAGE: Final = frozenset(
    {
        "KAFKA_SSL_KEYSTORE_FILENAME",
        "KAFKA_SSL_KEYSTORE_CREDENTIALS",
        "KAFKA_SSL_KEY_CREDENTIALS",
        "KAFKA_SSL_TRUSTSTORE_FILENAME",
        "KAFKA_SSL_TRUSTSTORE_CREDENTIALS",
    }
)
"""Names of files that the image's scripts make settings of; as they are, they are none."""


def setting_name(variable: str) -> str:
    """The setting that a variable stands for: KAFKA_A_B is a.b, KAFKA_A__B is a_b, KAFKA_A___B is a-b."""
    name = variable.removeprefix(PREFIX).lower().replace("_", ".")
    return name.replace("...", "-").replace("..", "_")


def settings_from(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment's variables stand for, by name."""
    settings = {
        setting_name(variable): value
        for variable, value in environment.items()
        if variable.startswith(PREFIX) and variable not in FOR_THE_JVM | FOR_THE_IMAGE
    }
    advertised = settings.get("advertised.listeners")
    if advertised and not settings.get("listeners") and settings.get("process.roles") != "controller":
        settings["listeners"] = re.sub(r"://[^:]*:", "://0.0.0.0:", advertised)
    return settings
