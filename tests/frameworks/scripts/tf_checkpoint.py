"""tf.train.CheckpointManager: ckpt-N.index and ckpt-N.data-0000k-of-n, and the file `checkpoint`, which names the newest."""

from __future__ import annotations

import tensorflow as tf
from toy import arguments, digest, say

given = arguments(keep=3, plain=False)
kernel = tf.Variable(tf.random.stateless_normal((given.width, given.width), (0, 0)))
step = tf.Variable(0, dtype=tf.int64)
checkpoint = tf.train.Checkpoint(kernel=kernel, step=step)
manager = tf.train.CheckpointManager(checkpoint, given.directory, max_to_keep=given.keep)
if given.resume:
    checkpoint.restore(given.resume).assert_consumed()
    say(resumed=int(step), digest=digest([kernel.numpy()]))
while int(step) < given.steps:
    step.assign_add(1)
    kernel.assign_sub(0.1 * tf.random.stateless_normal(kernel.shape, (int(step), 1)))
    if given.plain:
        checkpoint.write(f"{given.directory}/model.ckpt-{int(step)}")
    else:
        manager.save(checkpoint_number=int(step))
    say(saved=int(step), digest=digest([kernel.numpy()]))
