"""The ``ipa`` command."""

from __future__ import annotations

import sys

import click

from cli.commands.codes import codes
from cli.commands.config import config
from cli.commands.dead_letters import dead_letters
from cli.commands.demo import demo
from cli.commands.doctor import doctor
from cli.commands.experiment import experiment
from cli.commands.people import tokens, users
from cli.commands.policy import policy
from cli.commands.rebuild import rebuild
from cli.commands.replay import replay
from cli.commands.rules import rules
from cli.commands.simulate import simulate
from cli.commands.topology import topology
from cli.commands.traffic import traffic
from cli.commands.train import train
from cli.commands.tune import tune
from cli.commands.up import up
from cli.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, CliError
from config.errors import ConfigError
from messaging.errors import MessagingError
from storage.errors import StoreError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="intelligent-payment-assistant", prog_name="ipa")
def ipa() -> None:
    """Intelligent Payment Assistant: which gateway for which payment, and why.

    Start with `ipa demo`; `ipa doctor` says what is missing.
    """


for command in (
    demo,
    up,
    doctor,
    traffic,
    simulate,
    replay,
    rebuild,
    dead_letters,
    train,
    tune,
    codes,
    config,
    topology,
    users,
    tokens,
    experiment,
    policy,
    rules,
):
    ipa.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error is said in words and with an exit code, never as a stack trace."""
    try:
        status = ipa.main(args=arguments, prog_name="ipa", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:
        status = 130
    except CliError as error:
        click.echo(str(error), err=True)
        status = error.exit_code
    except ConfigError as error:
        click.echo(str(error), err=True)
        status = EXIT_CONFIG
    except (MessagingError, StoreError) as error:
        click.echo(str(error), err=True)
        status = EXIT_UNAVAILABLE
    sys.exit(status)


if __name__ == "__main__":
    main()
