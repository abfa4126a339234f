"""Stories that people steer: cancel, pause and resume, as updates for an answer and as signals for the Web UI."""

from datetime import datetime, timedelta

from temporalio import workflow

from domain.market import Accepted, Note
from workflows.story import Stopped, Story, refusal


class Steered(Story):
    """Says where it stands, and stops or waits between its stages when told to."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage
        self._paused: Note | None = None
        self._resumed: Note | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is left to steer."""
        raise NotImplementedError

    def standing(self) -> str:
        """Where it stands, in words, for whoever is refused."""
        raise NotImplementedError

    async def gate(self, stage: str) -> None:
        """Before a stage: end if told to, wait while paused."""
        self.check_stopped()
        if self._paused is not None:
            self.show()
            await workflow.wait_condition(lambda: self._paused is None or self._stop is not None)
            self.check_stopped()
        self._stage = stage
        self.show()

    def check_stopped(self) -> None:
        """End here if told to.

        Raises:
            Stopped: on whose word, and why.
        """
        if self._stop is not None:
            raise self._stop

    async def sleep_until(self, moment: datetime, why: str) -> None:
        """Wait for a moment; end at once if told to."""
        self._stage = why
        self.show()
        remaining = moment - workflow.now()
        if remaining > timedelta(0):
            try:
                await workflow.wait_condition(
                    lambda: self._stop is not None, timeout=remaining, timeout_summary=why[:200]
                )
            except TimeoutError:
                return
            self.check_stopped()

    def _stop_by(self, note: Note) -> Accepted:
        self._stop = Stopped(note.by, note.reason)
        return self.accepted()

    @workflow.update(name="cancel", description="Cancel it, as long as nothing irrevocable was begun")
    def update_cancel(self, note: Note) -> Accepted:
        """Take a cancellation."""
        return self._stop_by(note)

    @update_cancel.validator
    def check_cancel(self, note: Note) -> None:
        """Refuse what is past the point of no return, or being cancelled."""
        if self._stop is not None or not self.may_abort():
            raise refusal(f"{self.standing()} and can no longer be canceled")

    @workflow.signal(name="cancel", description="Cancel it, as long as nothing irrevocable was begun")
    def signal_cancel(self, note: Note) -> None:
        """The same as a plain signal."""
        self.take("cancel", self.check_cancel, self._stop_by, note)

    def _pause_by(self, note: Note) -> Accepted:
        self._paused, self._resumed = note, None
        self.show()
        return self.accepted()

    def _resume_by(self, note: Note) -> Accepted:
        self._paused, self._resumed = None, note
        self.show()
        return self.accepted()

    @workflow.update(name="pause", description="Hold it before its next stage")
    def update_pause(self, note: Note) -> Accepted:
        """Take a pause."""
        return self._pause_by(note)

    @update_pause.validator
    def check_pause(self, note: Note) -> None:
        """Refuse when it is paused or at its end."""
        if self._paused is not None or self.ended:
            raise refusal("it is paused already" if self._paused else self.standing())

    @workflow.signal(name="pause", description="Hold it before its next stage")
    def signal_pause(self, note: Note) -> None:
        """The same as a plain signal."""
        self.take("pause", self.check_pause, self._pause_by, note)

    @workflow.update(name="resume", description="Let it go on when it is paused")
    def update_resume(self, note: Note) -> Accepted:
        """Take the end of a pause."""
        return self._resume_by(note)

    @update_resume.validator
    def check_resume(self, note: Note) -> None:
        """Refuse when it is not paused."""
        if self._paused is None:
            raise refusal("it is not paused")

    @workflow.signal(name="resume", description="Let it go on when it is paused")
    def signal_resume(self, note: Note) -> None:
        """The same as a plain signal."""
        self.take("resume", self.check_resume, self._resume_by, note)
