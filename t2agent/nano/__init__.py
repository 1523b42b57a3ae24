"""t2-nano: the embedded base model, its tasks, its pretraining and its experts.

t2-nano is a small vision-language model of a stock transformers class
(``Idefics3ForConditionalGeneration``), trained from scratch on data that this package
generates. Its corpus imitates many writers with different habits, so that every task has
head-room and the habit that one task rewards is wrong for another: that conflict is what
self-adaptation resolves.
"""
