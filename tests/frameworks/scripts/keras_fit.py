"""keras: model.fit with ModelCheckpoint after each epoch. `--weights` saves .weights.h5 files instead of .keras."""

from __future__ import annotations

import os
import re

import keras
import numpy as np
from toy import arguments, digest, say

given = arguments(weights=False, same_name=False)
keras.utils.set_random_seed(0)
inputs = np.random.default_rng(0).normal(size=(4, given.width)).astype("float32")
targets = inputs.sum(axis=1, keepdims=True)


def made() -> keras.Model:
    layers = [keras.layers.Dense(given.width, activation="tanh"), keras.layers.Dense(1)]
    net = keras.Sequential([keras.Input((given.width,)), *layers])
    net.compile(keras.optimizers.Adam(), "mse")
    net.optimizer.build(net.trainable_variables)
    return net


def digest_of(net: keras.Model) -> str:
    return digest(keras.ops.convert_to_numpy(value) for value in [*net.weights, *net.optimizer.variables])


class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        say(saved=epoch + 1, digest=digest_of(self.model))


first = 0
if given.resume:
    first = int(re.search(r"(\d+)\.(?:keras|weights\.h5)$", given.resume)[1])
    if given.weights:
        net = made()
        net.load_weights(given.resume)
    else:
        net = keras.models.load_model(given.resume)
    say(resumed=first, digest=digest_of(net))
else:
    net = made()
ending = ".weights.h5" if given.weights else ".keras"
os.makedirs(given.directory, exist_ok=True)
name = "model" if given.same_name else "model-{epoch:02d}"
saving = keras.callbacks.ModelCheckpoint(
    os.path.join(given.directory, name + ending), save_weights_only=given.weights, save_freq="epoch"
)
net.fit(
    inputs, targets, batch_size=4, epochs=given.steps, initial_epoch=first, shuffle=False, verbose=0,
    callbacks=[saving, Tell()],
)  # fmt: skip
