"""midair in the lab: its own agent against every NAT there is.

The lab knows nothing of midair; here both meet. ``simulated`` plays two agents against each other in the lab's
simulated net, thousands of times with seeds; ``population`` does that for the pairs of a whole population.
"""

__all__: list[str] = []
