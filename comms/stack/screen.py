"""What `comms up` shows in its terminal: a few plain lines, and the address and key to start with.

The services' own lines go to their logs; here stands only what a person must see.
"""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Screen:
    """Writes to standard output; colours only where that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """What happens now."""
        self._console.print(f"[dim]{escape(line)}[/dim]")

    def warn(self, line: str) -> None:
        """Something ended that should not have, or came back."""
        self._console.print(f"[bold yellow]![/bold yellow] {escape(line)}")

    def welcome(self, *, url: str, key: str, data_dir: Path, seconds: float) -> None:
        """Everything runs: where to look and what to send with."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_row("  [dim]Page[/dim]", f"[bold cyan]{escape(url)}[/bold cyan]")
        table.add_row("  [dim]API[/dim]", f"{escape(url)}/docs")
        table.add_row("  [dim]Key[/dim]", f"[bold]{escape(key)}[/bold]")
        table.add_row("", f"[dim]also in {escape(str(data_dir / 'api-key'))}[/dim]")
        table.add_row("  [dim]Logs[/dim]", escape(str(data_dir / "logs")))
        self._console.print(f"\n[bold green]Communications is up[/bold green] ({seconds:.1f} s)\n")
        self._console.print(table)
        self._console.print("\n[dim]Ctrl-C stops all of it.[/dim]\n")
