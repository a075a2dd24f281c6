"""What runs inside a session lives in `kaggle_manager.trainer`; these are its two programs."""
