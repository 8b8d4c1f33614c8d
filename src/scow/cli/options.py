"""Flags and help texts several commands share."""

from scow.cli.flags import Flag

FORMAT_TEXT_TABLE = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template."
)
FORMAT_TEXT_JSON = (
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template."
)

FORMAT_TABLE = Flag("format", "string", FORMAT_TEXT_TABLE)
FORMAT_JSON = Flag("format", "string", FORMAT_TEXT_JSON, short="f")
FILTER = Flag("filter", "filter", "Filter output based on conditions provided", short="f")
NO_TRUNC = Flag("no-trunc", "bool", "Don't truncate output")
FORCE_PRUNE = Flag("force", "bool", "Do not prompt for confirmation", short="f")
DETACH_KEYS = Flag("detach-keys", "string", "Override the key sequence for detaching a container")
PLATFORM = Flag("platform", "string", "Set platform if server is multi-platform capable")
#: Docker's content trust does not exist here; the flag is taken so that scripts go on.
CONTENT_TRUST = Flag("disable-content-trust", "bool", "Skip image verification", default=True)
