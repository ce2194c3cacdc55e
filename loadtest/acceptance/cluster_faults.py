"""The faults that cluster.py goes through. Each is chosen first (who leads, which node) and applied then, so that
the moment of the fault is exact. What was killed is started again by `undo`, as a supervisor would do it; nothing
else is ever helped."""


class Fault:
    """`apply` and `undo`; `down`: gateways that can't serve meanwhile; `leader_lost`: writes must go on soon."""

    def __init__(self, apply, undo, down=(), leader_lost=False):
        self.apply, self.undo, self.down, self.leader_lost = apply, undo, list(down), leader_lost


def killed(cluster, nodes, **more):
    def apply():
        for node in nodes:
            node.process.kill()
        for node in nodes:
            node.kill()

    return Fault(apply, lambda: cluster.start_again(nodes), **more)


def stopped(nodes, **more):
    return Fault(lambda: [node.pause() for node in nodes], lambda: [node.resume() for node in nodes], **more)


def cut_off(cluster, cuts, **more):
    """`cuts`: pairs of nodes of which the first hears nothing of the second."""
    def apply():
        for here, there in cuts:
            cluster.network.cut(here.name, there.name)

    return Fault(apply, cluster.network.heal, **more)


def both_ways(some, others):
    return [pair for one in some for other in others for pair in ((one, other), (other, one))]


def others(cluster, node):
    return [other for other in cluster.nodes if other is not node]


def storage_killed(cluster, rng):
    return killed(cluster, [rng.choice(cluster.storage)])


def storage_stopped(cluster, rng):
    return stopped([rng.choice(cluster.storage)])


def storage_away(cluster, rng):
    """Away for long, while objects are written, deleted and collected."""
    return killed(cluster, [rng.choice(cluster.storage)])


def storage_cut_off(cluster, rng):
    node = rng.choice(cluster.storage)
    return cut_off(cluster, both_ways([node], others(cluster, node)))


def storage_deaf(cluster, rng):
    """It sends, but hears nobody."""
    node = rng.choice(cluster.storage)
    return cut_off(cluster, [(node, other) for other in others(cluster, node)])


def storage_split(cluster, rng):
    """Two storage nodes reach the metadata nodes, but one gateway does not reach them."""
    return cut_off(cluster, both_ways([rng.choice(cluster.gateways)], rng.sample(cluster.storage, 2)))


def leader_killed(cluster, rng):
    return killed(cluster, [cluster.leader()], leader_lost=True)


def leader_stopped(cluster, rng):
    return stopped([cluster.leader()], leader_lost=True)


def leader_cut_off(cluster, rng):
    leader = cluster.leader()
    return cut_off(cluster, both_ways([leader], others(cluster, leader)), leader_lost=True)


def leader_deaf(cluster, rng):
    """It sends heartbeats, but hears no answer."""
    leader = cluster.leader()
    return cut_off(cluster, [(leader, other) for other in others(cluster, leader)], leader_lost=True)


def leader_dumb(cluster, rng):
    """It hears everybody, but nobody hears it."""
    leader = cluster.leader()
    return cut_off(cluster, [(other, leader) for other in others(cluster, leader)], leader_lost=True)


def voters_apart(cluster, rng):
    """The leader and one voter do not reach each other; both reach the third and the gateways."""
    leader = cluster.leader()
    follower = rng.choice([node for node in cluster.metadata if node is not leader])
    return cut_off(cluster, both_ways([leader], [follower]))


def follower_killed(cluster, rng):
    leader = cluster.leader()
    return killed(cluster, [rng.choice([node for node in cluster.metadata if node is not leader])])


def follower_away(cluster, rng):
    """A voter that was away for long; the log may have gone on without it."""
    return follower_killed(cluster, rng)


def gateway_killed(cluster, rng):
    gateway = rng.choice(cluster.gateways)
    return killed(cluster, [gateway], down=[gateway])


def gateway_stopped(cluster, rng):
    gateway = rng.choice(cluster.gateways)
    return stopped([gateway], down=[gateway])


def gateway_without_leader(cluster, rng):
    """A gateway that reaches all but the leader; whether it can write then is not asked here."""
    gateway, leader = rng.choice(cluster.gateways), cluster.leader()
    return cut_off(cluster, both_ways([gateway], [leader]), down=[gateway])


def gateway_deaf(cluster, rng):
    """Its requests arrive, the answers do not."""
    gateway = rng.choice(cluster.gateways)
    return cut_off(cluster, [(gateway, node) for node in cluster.metadata + cluster.storage], down=[gateway])


def everything_killed(cluster, rng):
    return killed(cluster, cluster.nodes, down=cluster.gateways)


def everything_stopped(cluster, rng):
    return stopped(cluster.nodes, down=cluster.gateways)


def loss(cluster, rng):
    """Of what arrives anywhere, a tenth is lost."""
    def apply():
        for node in cluster.nodes:
            cluster.network.loss(node.name, 10)

    return Fault(apply, cluster.network.heal)


# What chooses it, and for how many seconds it lasts at least and at most.
FAULTS = {
    choose.__name__: (choose, seconds)
    for choose, seconds in (
        (storage_killed, (3, 8)),
        (storage_stopped, (3, 12)),
        (storage_away, (45, 60)),
        (storage_cut_off, (5, 15)),
        (storage_deaf, (5, 15)),
        (storage_split, (5, 15)),
        (leader_killed, (8, 12)),
        (leader_stopped, (8, 15)),
        (leader_cut_off, (8, 15)),
        (leader_deaf, (8, 15)),
        (leader_dumb, (8, 15)),
        (voters_apart, (8, 15)),
        (follower_killed, (3, 8)),
        (follower_away, (45, 60)),
        (gateway_killed, (3, 8)),
        (gateway_stopped, (3, 20)),
        (gateway_without_leader, (5, 15)),
        (gateway_deaf, (5, 15)),
        (everything_killed, (1, 4)),
        (everything_stopped, (2, 20)),
        (loss, (10, 20)),
    )
}


def plan(rng, count=None, only=None):
    """Rounds of `count` faults, without end: all come once, in an order of their own, before any comes again."""
    names = [name for name in FAULTS if not only or name in only]
    count, deck = min(count or len(names), len(names)), []
    while True:
        chosen = []
        while len(chosen) < count:
            deck = deck or rng.sample(names, len(names))
            # Not twice into one round, where two decks meet.
            chosen.append(deck.pop(next(place for place, name in enumerate(deck) if name not in chosen)))
        yield chosen
