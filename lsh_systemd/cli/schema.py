"""lshctl schema."""

import click

from lsh_systemd.cli.common import print_json


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of job files, for editors.

    \b
    lshctl schema >jobs.schema.json     # then, first in a YAML file: # yaml-language-server: $schema=jobs.schema.json
    """
    from lsh_systemd.cli.option_table import descriptions
    from lsh_systemd.jobschema import schema

    print_json(schema(descriptions()))
