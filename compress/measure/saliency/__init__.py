"""What a network's answer rests on: saliency maps, and the share of them that lies on the thing.

A map is float32 (height, width) over the network's input: at least 0, and its sum is 1 unless
nothing in the image speaks for the class, when it is 0 everywhere. It explains one output, the
score of a class before the softmax.
"""
