"""What a cell does over time: its gates and states, how far back it remembers, what goes wrong before training does.

The public function is `cellula.lens`; the folder has another name, since a module and a function cannot share one.
"""
