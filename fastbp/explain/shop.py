"""The shop: apples, mandarins and the consumption tax."""

from __future__ import annotations

from fastbp.explain.page import Code, Graph, Page, Table, derivative, number
from fastbp.graph import Variable


def shop(
    apples: Variable,
    apple_price: Variable,
    mandarins: Variable,
    mandarin_price: Variable,
    tax: Variable,
) -> Variable:
    fruit = apples * apple_price + mandarins * mandarin_price
    total = fruit * tax
    fruit.name, total.name = "fruit", "total"
    return total


def compute() -> Page:
    """The total, its derivatives, and what becomes of the total when each number is larger by 1 per cent."""
    apples, apple_price = Variable(2, "apples"), Variable(100, "price of an apple")
    mandarins, mandarin_price = Variable(3, "mandarins"), Variable(150, "price of a mandarin")
    leaves = apples, apple_price, mandarins, mandarin_price, Variable(1.1, "tax factor")
    total = shop(*leaves)
    total.backward()
    fruit, _ = total.inputs
    rows = []
    for index, leaf in enumerate(leaves):
        rise = 0.01 * leaf.value
        more = [Variable(node.value + rise * (at == index)) for at, node in enumerate(leaves)]
        change = shop(*more).value - total.value
        rows.append([number(leaf.value), number(derivative(leaf)), number(rise), number(change)])
    values = {
        "code": Code(shop),
        "graph": Graph(total, (*leaves, fruit, total)),
        "apples": fruit.inputs[0].value,
        "mandarins": fruit.inputs[1].value,
        "fruit": fruit.value,
        "total": total.value,
        "d_fruit": derivative(fruit),
        "d_apple_price": derivative(apple_price),
        "derivatives": Table(rows),
    }
    return Page(values, {"shop.svg": total.draw})
