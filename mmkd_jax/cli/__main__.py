"""Entry point of `python -m mmkd_jax.cli`, same as the command `mmkd`."""

from mmkd_jax.cli import main

if __name__ == "__main__":
    main()
