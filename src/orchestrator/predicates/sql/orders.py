"""The operators of order, as SQL spells them."""

from orchestrator.predicates.tree import Operator

ORDERS = {
    Operator.GREATER_THAN: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LESS_THAN: "<",
    Operator.LESS_OR_EQUAL: "<=",
}
