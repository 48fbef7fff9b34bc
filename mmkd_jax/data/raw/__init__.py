"""Raw data of others as data sets: tables with files, TensorFlow Datasets, Hugging Face data sets."""
