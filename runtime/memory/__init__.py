"""What a run takes of the machine's memory.

sampler       the definition of footprint, baseline and peak, and the sampling of this process
thinning      which samples are logged
watch         the second process that samples, while a program holds Python's lock
environment   the machine and the versions that figures were measured with
"""
