"""The guided tour of back propagation: every step of a text book, computed before the reader's eyes.

A chapter is a module that computes and a text for each language, ``texts/en/shop.txt`` beside ``shop.py``.
"""
