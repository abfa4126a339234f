"""Ports for one run: several processes that look for them at the same moment never get the same."""

import random

from deploy.local.temporary import free_ports


def test_a_port_is_given_to_one_alone_also_before_anybody_listens_on_it() -> None:
    before = random.getstate()
    first = free_ports(5)
    random.setstate(before)  # whoever else asks looks at the same ports, in the same order
    second = free_ports(5)
    assert len({*first, *second}) == 10
