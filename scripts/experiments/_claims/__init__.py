"""What pages say in prose: a module a page, with the name of the page.

``CLAIMS`` are the phrases with measured numbers, and how the records tell these;
``SETTINGS`` phrases with numbers that are chosen, asked for, defined or published
elsewhere. ``python -m scripts.experiments pages`` writes the numbers of the records
into the pages.
"""
