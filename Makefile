.PHONY: demo serve test lint openapi lock

demo serve test lint openapi lock:
	@python3 dev.py $@
