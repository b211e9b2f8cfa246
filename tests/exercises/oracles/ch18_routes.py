"""Slow, obvious answers of chapter 18: which routes are open, edges cut one by one."""


def still_open(claim: list, change) -> list[int]:
    """The numbers of the routes that a change leaves open: damage spreads, round after round, until
    nothing new is hit.
    """
    damaged = [hit_edges(route, change) for route in claim]
    lost = set(change.zero)
    for hit in damaged:
        lost |= {
            end_of(edge).rpartition(".")[0] for edge in hit if end_of(edge)[-2:] in (".q", ".k")
        }
    numbers = []
    for number, (route, hit) in enumerate(zip(claim, damaged)):
        sender = route.unless.split(">")[0]
        quiet = sender in lost and sender not in change.mean and route.unless not in change.cut
        if not hit and (quiet or route.unless == ""):
            numbers.append(number)
    return numbers


def hit_edges(route, change) -> set[str]:
    """The edges of a route that are broken."""
    silenced = {*change.zero, *change.mean}
    hit = {edge for edge in route.edges if edge in change.cut or edge.split(">")[0] in silenced}
    before = None
    while hit != before:
        before, heads = hit, {end_of(edge).rpartition(".")[0] for edge in hit}
        hit = hit | {edge for edge in route.edges if edge.split(">")[0] in heads}
    return hit


def end_of(edge: str) -> str:
    return edge.split(">")[1]
