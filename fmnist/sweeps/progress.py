"""A sweep whose jobs run at once, on the terminal: what ended, what runs, how long it may take."""

import time
from collections.abc import Collection
from threading import Event, Thread

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from fmnist.sweeps.job_state import JobState, find_all

LOOK_INTERVAL = 0.5  # seconds between two looks at the jobs


class SweepProgress:
    """Prints a line for each job that ended and, on a terminal, shows below it those that run.

    Args:
        sweep_dir: its folder.
        planned: how many jobs it has; may grow.
        swept: the keys by which its jobs differ.
    """

    def __init__(self, sweep_dir: str, planned: int, swept: Collection[str]) -> None:
        self.sweep_dir, self.planned, self.swept = sweep_dir, planned, swept
        self.jobs: dict[int, JobState] = {}
        self.over = Event()
        self.console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.thread = Thread(target=self._show, daemon=True)

    def start(self) -> None:
        self.started = time.monotonic()
        self.thread.start()

    def stop(self) -> None:
        """Look a last time, if it was started."""
        self.over.set()
        if self.thread.ident:
            self.thread.join()

    def failures(self) -> list[str]:
        """Return a line for each job that failed, the first with their number; empty if none."""
        jobs = list(find_all(self.sweep_dir))
        lines = [f"  {self.name(job)}: {job.error}" for job in jobs if job.error]
        missing = self.planned - len(jobs)
        count = f"{len(lines)} of {self.planned} jobs failed"
        not_begun = f", {missing} did not begin" if missing > 0 else ""
        return [count + not_begun, *lines] if lines else []

    def name(self, job: JobState) -> str:
        """Return the overrides by which a job differs from the others."""
        differing = [o for o in job.overrides if o.lstrip("+").partition("=")[0] in self.swept]
        return " ".join(differing or job.overrides)

    def _show(self) -> None:
        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            while not self.over.wait(LOOK_INTERVAL):
                self._look()
                live.update(self._running(), refresh=True)  # which only a terminal shows
            self._look()

    def _look(self) -> None:
        """Read the states that may have changed, and print what will stay."""
        ended = frozenset(number for number, job in self.jobs.items() if job.ended)
        for job in find_all(self.sweep_dir, skip=ended):
            before = self.jobs.get(job.number)
            self.jobs[job.number] = job
            for warning in job.warnings[len(before.warnings) if before else 0 :]:
                self.console.print(f"{self.name(job)}: {warning}")
            if job.error:
                self.console.print(f"{self._count()}  {self.name(job)}  failed: {job.error}")
            elif job.ended:
                early = f", ended after epoch {job.epoch}" if job.epoch < job.epochs else ""
                result = f"val_accuracy {job.objective:.4f}{early}"
                self.console.print(f"{self._count()}  {self.name(job)}  {result}")

    def _count(self) -> str:
        ended = sum(job.ended for job in self.jobs.values())
        return f"job {ended:>{len(str(self.planned))}}/{self.planned}"

    def _running(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        for job in self.jobs.values():
            if not job.ended:
                epoch = f"epoch {job.epoch}/{job.epochs}" if job.epochs else "begins"
                score = "" if job.val_accuracy is None else f"val_accuracy {job.val_accuracy:.4f}"
                rows.add_row("  running", self.name(job), epoch, score)
        return Group(rows, self._summary())

    def _summary(self) -> str:
        ended = [job for job in self.jobs.values() if job.ended]
        failed = sum(job.error is not None for job in ended)
        parts = [
            f"{len(ended)} of {self.planned} jobs done",
            f"{len(self.jobs) - len(ended)} running",
            f"{failed} failed" if failed else "",
            self._time_left(),
        ]
        return ", ".join(filter(None, parts))

    def _time_left(self) -> str:
        """Return an estimate in words; nothing before the first epoch has ended."""
        done = sum(1 if job.ended else job.epoch / max(job.epochs, 1) for job in self.jobs.values())
        if not done:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.planned - done)
        left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
        return f"about {left} left"
