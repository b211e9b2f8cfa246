"""What people get wrong about open routes."""

from solutions.ch18_blind_models import into
from solutions.examination import sender_of


def opened(quiet, closing=None):
    """open_routes with other meanings: quiet(edge, claim, change) of `unless`; closing(edge, route,
    change, claim): does this edge close its route?
    """
    closing = closing or broken

    def open_routes(claim, change):
        found = []
        for route in claim:
            whole = not any([closing(edge, route, change, claim) for edge in route.edges])
            if whole and (not route.unless or quiet(route.unless, claim, change)):
                found.append(route)
        return found

    return open_routes


def is_hit(edge, change):
    return edge in change.cut or sender_of(edge) in (*change.zero, *change.mean)


def broken(edge, route, change, claim=None):
    """As it should be."""
    others = into(route, sender_of(edge))
    return is_hit(edge, change) or any([broken(other, route, change) for other in others])


def broken_here(edge, route, change, claim):
    return is_hit(edge, change)


def broken_if_cut(edge, route, change, claim):
    others = into(route, sender_of(edge))
    return edge in change.cut or any([broken_if_cut(e, route, change, claim) for e in others])


def broken_by_zero(edge, route, change, claim):
    return broken(edge, route, change._replace(mean=()))


def broken_by_one_step(edge, route, change, claim):
    return is_hit(edge, change) or any([is_hit(e, change) for e in into(route, sender_of(edge))])


def broken_anywhere(edge, route, change, claim):
    """Damage in one route hurts the heads of all."""
    if is_hit(edge, change):
        return True
    others = [(e, other) for other in claim for e in into(other, sender_of(edge))]
    return any([broken_anywhere(e, other, change, claim) for e, other in others])


def quiet_by(is_broken):
    """quiet, with another meaning of a broken edge."""

    def meant(edge, claim, change):
        sender = sender_of(edge)
        may_be = edge not in change.cut and sender not in change.mean
        searching = [(e, route) for route in claim for e in into(route, sender, "qk")]
        lost = any([is_broken(e, route, change, claim) for e, route in searching])
        return may_be and (sender in change.zero or lost)

    return meant


def lost(edge, claim, change, parts="qk"):
    """Does the sender of an edge find nothing?"""
    searching = [(e, route) for route in claim for e in into(route, sender_of(edge), parts)]
    return any([broken(e, route, change) for e, route in searching])


def quiet(edge, claim, change):
    """As it should be."""
    sender = sender_of(edge)
    may_be = edge not in change.cut and sender not in change.mean
    return may_be and (sender in change.zero or lost(edge, claim, change))


def mean_is_quiet(edge, claim, change):
    silent = sender_of(edge) in (*change.zero, *change.mean) or lost(edge, claim, change)
    return edge not in change.cut and silent


def lost_is_quiet(edge, claim, change):
    silent = sender_of(edge) in change.zero or lost(edge, claim, change)
    return edge not in change.cut and silent


def cut_is_quiet(edge, claim, change):
    uncut = change._replace(cut=tuple(e for e in change.cut if e != edge))
    return edge in change.cut or quiet(edge, claim, uncut)


def cut_does_not_matter(edge, claim, change):
    return quiet(edge, claim, change._replace(cut=tuple(e for e in change.cut if e != edge)))


def zero_alone_is_quiet(edge, claim, change):
    return edge not in change.cut and sender_of(edge) in change.zero


def values_count(edge, claim, change):
    sender = sender_of(edge)
    may_be = edge not in change.cut and sender not in change.mean
    return may_be and (sender in change.zero or lost(edge, claim, change, "qkv"))


def only_first(claim, change):
    return opened(quiet)(claim, change)[:1]


def turned(edge, claim, change):
    return not quiet(edge, claim, change)


ROUTE_MISTAKES = {
    "what reaches a head over a broken edge is lost for what it sends on, too": opened(
        quiet_by(broken_here)
    ),
    "heads that write 0 or their mean break their edges, too": opened(quiet, broken_if_cut),
    "a head that writes its mean carries no message: its edges are broken": opened(
        quiet, broken_by_zero
    ),
    "damage goes on through any number of heads, not one": opened(quiet_by(broken_by_one_step)),
    "what is broken in one route does not break another": opened(quiet, broken_anywhere),
    "a mean is not silence: the edge of a head that writes its mean is not quiet": opened(
        mean_is_quiet
    ),
    "a head that writes its mean is not silent, even if it cannot search": opened(lost_is_quiet),
    "a cut edge carries a mean: it is not quiet": opened(cut_is_quiet),
    "an edge that is cut itself is never quiet, whatever its sender does": opened(
        cut_does_not_matter
    ),
    "a head is also silent if it cannot search: an edge into its q or k is broken": opened(
        zero_alone_is_quiet
    ),
    "a broken edge into v does not silence a head: it still writes": opened(values_count),
    "`unless` was left out": opened(lambda edge, claim, change: True),
    "`unless` was turned round: the route is open while the edge is quiet": opened(turned),
    "all open routes are asked for, not the first": only_first,
}
