"""A model that notes what its hooks changed, to say what a learner's hooks did."""

from torch import Tensor

from minitransformer import Transformer
from minitransformer.hooks import NO_HOOKS, Hooks


class Noting:
    """Hooks that note each activation before and after: name -> (before, after)."""

    def __init__(self, hooks: Hooks):
        self.hooks, self.seen = hooks, {}

    def listens(self, name: str) -> bool:
        return self.hooks.listens(name)

    def edits(self, name: str) -> bool:
        return self.hooks.edits(name)

    def __call__(self, name: str, activation: Tensor, fresh: bool = False) -> Tensor:
        before = activation.detach().clone()
        after = self.hooks(name, activation)
        self.seen[name] = (before, after.detach().clone())
        return after


class Watched(Transformer):
    """The same model; `runs` holds what each forward pass went through, `changed` what its hooks
    changed.
    """

    @classmethod
    def like(cls, model: Transformer) -> "Watched":
        watched = cls(model.cfg, 0).to(model.W_E.dtype)
        watched.load_state_dict(model.state_dict())
        watched.runs = []
        return watched.requires_grad_(False)

    def forward(self, tokens: Tensor, hook: Hooks = NO_HOOKS) -> Tensor:
        noting = Noting(hook)
        self.runs = [*self.runs[-7:], noting.seen]
        return super().forward(tokens, noting)

    def changed(self) -> list[str]:
        """The hook names at which the last run that was changed was changed."""
        for run in reversed(self.runs):
            names = [name for name, (before, after) in run.items() if not before.equal(after)]
            if names:
                return names
        return []
