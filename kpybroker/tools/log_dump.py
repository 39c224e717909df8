import click


@click.command("dump")
def dump_command() -> None:
    """x"""
