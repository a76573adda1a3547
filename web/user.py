"""python -m web.user NAME ADDRESS [--admin]: creates a user and prints a token for them. It is how
an installation gets its first user.

The token is shown only here. For an existing user it makes a further token.
"""

from __future__ import annotations

import click
from sqlalchemy import select

from app.models import User, session
from tasks.imports import address_of, name_of
from web import access


@click.command()
@click.argument("name")
@click.argument("address")
@click.option("--admin", is_flag=True, help="An administrator: sees all, creates users.")
@click.option("--days", type=click.IntRange(1, 365), default=30, help="How long the token is good.")
@click.password_option("--password", prompt=False, help="For logins; without one there are none.")
def make(name: str, address: str, admin: bool, days: int, password: str | None) -> None:
    """Create a user and print a token for them."""
    try:
        address, name = address_of(address), name_of(name)
    except ValueError as error:
        raise click.BadParameter(str(error).partition("\n")[0]) from error
    with session() as db:
        user = db.scalars(select(User).filter_by(email=address)).one_or_none() or User(
            name=name, email=address
        )
        user.admin = admin or bool(user.admin)
        user.password = access.password_hash(password) if password else user.password
        db.add(user)
    click.echo(access.new_token(user.id, "shell", [access.EVERYTHING], days)[0])


if __name__ == "__main__":
    make()
