"""The standard library as a corpus."""

from recipes.data.text import stdlib


def test_the_standard_library_splits_by_file_and_trains_its_tokenizer_on_training_files():
    splits, skipped = stdlib.sources(120)
    paths = {name: {source.path for source in files} for name, files in splits.items()}
    assert sum(map(len, paths.values())) + skipped == 120
    assert not paths["train"] & paths["val"] | paths["train"] & paths["test"] | paths["val"] & paths["test"]
    assert all(stdlib.split_of(path) == name for name, of_split in paths.items() for path in of_split)
    assert len(paths["train"]) > 90
    maker = stdlib.tokenizer(400, (), 120)
    assert maker.get_vocab_size() == 400
    source = splits["val"][0].content
    assert maker.decode(maker.encode(source).ids) == source  # byte-level: nothing is lost
