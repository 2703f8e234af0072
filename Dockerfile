# The operator, the vault and the movers: one static binary, nothing else. Built beforehand by scripts/binaries.
FROM scratch
COPY data-embassy /data-embassy
USER 65532:65532
ENTRYPOINT ["/data-embassy"]
