"""What `comms up` prints in its terminal: a few plain lines, the address and the API key.

`comms.stack.up` and the supervisor write to it. The services' own output goes to their log files;
the terminal shows only what a person must see.
"""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Screen:
    """Prints to standard output, in colour if that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)

    def info(self, line: str) -> None:
        """Print what happens now."""
        self._console.print(f"[dim]{escape(line)}[/dim]")

    def warn(self, line: str) -> None:
        """Print that a child process ended or was restarted."""
        self._console.print(f"[bold yellow]![/bold yellow] {escape(line)}")

    def show_summary(self, *, url: str, key: str, data_dir: Path, seconds: float) -> None:
        """Print where the running stack answers, and with which key."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_row("  [dim]Page[/dim]", f"[bold cyan]{escape(url)}[/bold cyan]")
        table.add_row("  [dim]API[/dim]", f"{escape(url)}/docs")
        table.add_row("  [dim]Key[/dim]", f"[bold]{escape(key)}[/bold]")
        table.add_row("", f"[dim]also in {escape(str(data_dir / 'api-key'))}[/dim]")
        table.add_row("  [dim]Logs[/dim]", escape(str(data_dir / "logs")))
        self._console.print(f"\n[bold green]Communications is up[/bold green] ({seconds:.1f} s)\n")
        self._console.print(table)
        self._console.print("\n[dim]Press Ctrl-C to stop everything.[/dim]\n")
