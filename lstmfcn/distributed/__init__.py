"""Training, tuning and prediction on Ray; no other folder of the package imports Ray.

In reading order:

What a command calls:
    train.py: ``lstmfcn train``, up to the start of Ray.
    tune.py: ``lstmfcn tune``, up to the start of Ray.
    predict.py: ``lstmfcn predict`` and ``evaluate``: actors that each take a shard at a time.
    requests.py: what was asked for, checked; CPUs, GPUs and memory.
    cluster.py: connects to Ray.
    capacity.py: what machines have, what is free, whether the cluster may grow.
    own_ray.py: a private Ray on this machine, if there is no cluster.

What a driver does:
    train_driver.py: follows a training, draws its curve, stops it.
    tune_driver.py: runs the trials of a sweep on Ray Tune, saves the best one's model.
    load.py: reads, checks and scales the data set, once, in a task.
    ray_trainer.py: several workers on Ray Train, started again after a loss.
    keeper.py: the process on the driver's machine that writes what trainings leave.
    ensemble.py: the members of an ensemble, one task each.
    searcher.py: suggests the hyperparameters of each trial, stops weak trials early.
    failures.py: one-line errors for what Ray raises; how often to start again.

What a worker runs:
    worker.py: the training loop on a worker's share of the rows.
    trial.py: the training loop of a trial, and its reports to Ray Tune.
"""
